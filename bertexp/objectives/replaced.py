"""Examples for replaced-token detection, and a frozen bank that depends on no generator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bertexp import draws
from bertexp.data.tokens.store import TokenStore, count_tokens
from bertexp.families.inputs import Inputs
from bertexp.masking.masker import Masker
from bertexp.objectives.base import BANK_SEED
from bertexp.objectives.batch import Batch, Target
from bertexp.objectives.examples import Examples, MarkedExamples, MaskedExamples, predict_tokens
from bertexp.objectives.positions import use_positions

NAME, GENERATOR = "rtd", "generator"


@dataclass(frozen=True, kw_only=True)
class Masks(Target):
    """What the generator predicts.

    Attributes:
        input_ids_BL: its input.
        queries_BP, slots_U: where it predicts, see ``Inputs``.
        chances_N: uniform in [0, 1); each selects a token from the predicted distribution.
    """

    input_ids_BL: Tensor
    queries_BP: Tensor
    slots_U: Tensor
    chances_N: Tensor

    def idle(self) -> Self:
        return replace(super().idle(), chances_N=self.chances_N[:0])

    def padded(self, before: int, after: int) -> Self:
        padded_BL = functional.pad(self.input_ids_BL, (0, after - before))
        return replace(super().padded(before, after), input_ids_BL=padded_BL)

    def inputs(self, batch: Batch) -> Inputs:
        """Return the generator's input for a batch with this target."""
        read = batch.at(self.positions_N, self.input_ids_BL)
        return replace(read, queries_BP=self.queries_BP, slots_U=self.slots_U)


class ReplacedExamples(MaskedExamples):
    """Examples with masks for the generator, and every token as a target of the model.

    The random numbers for drawing the generator's tokens are a function of seed, epoch, example
    and position.
    """

    def batch(self, epoch: int, example_ids: np.ndarray) -> Batch:
        batch, written = self.text.batch(epoch, example_ids), self.written(epoch, example_ids)
        ids_BL = written.input_ids_BL.numpy()
        masked = self.masker.mask(ids_BL, example_ids, epoch)
        own = predict_tokens(written, GENERATOR, masked.predicted_BL)
        target = own.targets[GENERATOR]
        chances_BL = _chances("replaced", self.masker.seed, epoch, example_ids, ids_BL.shape[1])
        masks = Masks(
            labels_N=target.labels_N,
            positions_N=target.positions_N,
            used=None,
            input_ids_BL=torch.from_numpy(masked.input_ids_BL),
            queries_BP=own.queries_BP,
            slots_U=own.slots_U,
            chances_N=torch.from_numpy(chances_BL[masked.predicted_BL]).float(),
        )
        where_BL = ~self.masker.tokenizer.is_special_V[ids_BL]
        places_N = torch.from_numpy(np.flatnonzero(where_BL))
        whole = Target(torch.from_numpy(ids_BL[where_BL]), places_N, None)
        targets = {**batch.targets, NAME: whole, GENERATOR: masks}
        return replace(batch, targets=targets, **masked.counts)


class FrozenReplacements(MarkedExamples):
    """Examples in which masked tokens become tokens drawn by their frequency in the training text.

    A drawn token that is the written one is not replaced.
    """

    def __init__(self, text: Examples, masker: Masker, train: TokenStore) -> None:
        super().__init__(text)
        self.masker = masker
        self._until_V = np.cumsum(count_tokens(train, masker.tokenizer))

    def batch(self, epoch: int, example_ids: np.ndarray) -> Batch:
        written = self.written(epoch, example_ids)
        ids_BL = written.input_ids_BL.numpy()
        masked = self.masker.mask(ids_BL, example_ids, epoch)
        chances_BL = _chances("frozen", BANK_SEED, epoch, example_ids, ids_BL.shape[1])
        places_BL = chances_BL * self._until_V[-1]
        drawn_BL = np.searchsorted(self._until_V, places_BL, side="right")
        replaced_BL = np.where(masked.predicted_BL, drawn_BL, ids_BL)
        where_BL = ~self.masker.tokenizer.is_special_V[ids_BL]
        labels_N = torch.from_numpy((replaced_BL != ids_BL)[where_BL].astype(np.int64))
        marked = use_positions(written, NAME, where_BL, labels_N)
        return replace(marked, input_ids_BL=torch.from_numpy(replaced_BL))


def _chances(
    purpose: str, seed: int, epoch: int, example_ids: np.ndarray, length: int
) -> np.ndarray:
    example_B1 = draws.states(purpose, seed, epoch, example_ids)[:, None]
    return draws.uniform(draws.combine(example_B1, np.arange(length)))
