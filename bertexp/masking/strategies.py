"""Strategies: partitions of sequences into units that are predicted as a whole.

Every unit has one score, a uniform draw in [0, 1), and is predicted if score / weight is below a
threshold that depends only on the rate. The advantages:

- the expected share of predicted tokens is exactly the rate, at every rate and length: no last
  unit is cut off or overshoots, and there is no cap;
- the units predicted at one rate are a subset of those predicted at any higher one;
- the mask of a sequence depends on nothing but its own tokens.

The papers draw one unit after the other until a budget of tokens is spent. ``masking.draw=budget``
spends it too, with scores that are spread evenly over the tokens of a sequence, see
``bertexp.masking.masker``. With ``masking.draw=independent`` scores are independent, and the number
of predicted tokens varies between sequences, and more so with longer units.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from bertexp.data.tokens.store import TokenStore
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.masking import STRATEGIES
from bertexp.masking.config import MaskingConfig


@dataclass(frozen=True)
class Context:
    """The arguments of a strategy.

    Attributes:
        config: ``masking.*``.
        tokens: the text to mask, for strategies that need its statistics.
    """

    config: MaskingConfig
    tokenizer: Tokenizer
    tokens: TokenStore


class Strategy(ABC):
    """Which tokens are predicted together, and with what probability.

    Args:
        context: the keys, the tokenizer and the text.

    Raises:
        UserError: the tokenizer or the text lacks what the strategy needs.
    """

    def __init__(self, context: Context) -> None:
        self.context = context

    # Whether its weights follow the model, see ``following``.
    adapts: ClassVar[bool] = False

    @abstractmethod
    def begins(
        self, ids_BL: np.ndarray, maskable_BL: np.ndarray, states_B: np.ndarray
    ) -> np.ndarray:
        """Return the positions where units begin, ``bool`` of shape (batch, length).

        A unit extends to the next beginning; the first position always begins one. Only its
        maskable positions are predicted. A row must depend on nothing but itself, without its
        padding.

        Args:
            ids_BL: token ids as written.
            maskable_BL: positions that may be predicted: no special tokens, no padding.
            states_B: a ``uint64`` for each example, for ``bertexp.draws``, if units are drawn.
        """

    def weights(self, ids_BL: np.ndarray, maskable_BL: np.ndarray) -> np.ndarray | None:
        """Return a positive weight for each position, equal within a unit; None for 1."""
        return None

    def extremes(self) -> tuple[dict[int, float], dict[int, float]]:
        """Return the tokens with the highest and the lowest rates, if it adapts."""
        return {}, {}

    def following(self, weights_V: np.ndarray) -> Self:
        """Return the strategy with a positive weight for each token; itself if it has its own."""
        return self

    def threshold(self, rates_B: np.ndarray) -> np.ndarray:
        """Return the threshold of score / weight at each rate; must grow with the rate."""
        return rates_B


@STRATEGIES.register("token")
class TokenStrategy(Strategy):
    """Each token on its own, with the same probability (Devlin et al. 2019, section 3.1)."""

    def begins(
        self, ids_BL: np.ndarray, maskable_BL: np.ndarray, states_B: np.ndarray
    ) -> np.ndarray:
        return np.ones(ids_BL.shape, dtype=bool)
