"""Masked batches as a pure function of seed, epoch and example."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bertexp import draws
from bertexp.masking import STRATEGIES
from bertexp.masking.config import MaskingConfig


@dataclass(frozen=True)
class Masked:
    """A batch after masking.

    Attributes:
        input_ids_BL: what the model sees, shape (batch, length).
        predicted_BL: where it has to say what stood there, ``bool``.
        maskable: how many positions could have been predicted.
    """

    input_ids_BL: np.ndarray
    predicted_BL: np.ndarray
    maskable: int


class Masker:
    """Draws masks for batches of token ids.

    Args:
        config: rate, strategy and replacement.
        is_special_V: which ids are special tokens, never predicted and never put in.
        mask_id: the id of ``[MASK]``.
        seed: the run's seed.
    """

    def __init__(
        self, config: MaskingConfig, is_special_V: np.ndarray, mask_id: int, seed: int
    ) -> None:
        self._config = config
        self._select = STRATEGIES[config.strategy]
        self._is_special_V = is_special_V
        self._ordinary_ids = np.flatnonzero(~is_special_V)
        self._mask_id = mask_id
        self._seed = seed

    def mask(self, ids_BL: np.ndarray, example_ids_B: np.ndarray, epoch: int) -> Masked:
        """Mask a batch; ``ids_BL`` (``int64``, padded) is left as it is.

        A sequence in which no position was drawn gets the one with the lowest score, so
        that no example is without a prediction.
        """
        position_L = np.arange(ids_BL.shape[1])
        example_B1 = draws.combine(draws.key("mask", self._seed, epoch), example_ids_B)[:, None]
        scores_BL = draws.uniform(draws.combine(example_B1, position_L))
        maskable_BL = ~self._is_special_V[ids_BL]
        predicted_BL = self._select(scores_BL, maskable_BL, self._config.prob)
        empty_B = maskable_BL.any(1) & ~predicted_BL.any(1)
        if empty_B.any():
            lowest_B = np.where(maskable_BL, scores_BL, 2.0).argmin(1)
            predicted_BL[empty_B, lowest_B[empty_B]] = True
        return Masked(
            self._replace(ids_BL, predicted_BL, example_ids_B, epoch),
            predicted_BL,
            int(maskable_BL.sum()),
        )

    def _replace(
        self, ids_BL: np.ndarray, predicted_BL: np.ndarray, example_ids_B: np.ndarray, epoch: int
    ) -> np.ndarray:
        replace = self._config.replace
        rows_N, columns_N = np.nonzero(predicted_BL)
        state_N = draws.combine(
            draws.combine(draws.key("replace", self._seed, epoch), example_ids_B[rows_N]), columns_N
        )
        choice_N = draws.uniform(state_N)
        random_N = self._ordinary_ids[
            draws.integers(draws.combine(state_N, 0), len(self._ordinary_ids))
        ]
        new_N = np.where(choice_N < replace.mask, self._mask_id, random_N)
        changed_N = choice_N < replace.mask + replace.random
        input_ids_BL = ids_BL.copy()
        input_ids_BL[rows_N[changed_N], columns_N[changed_N]] = new_N[changed_N]
        return input_ids_BL
