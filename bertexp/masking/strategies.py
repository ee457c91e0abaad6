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
from bertexp.masking.words import Words, batch_words, row_starts, word_begins
from bertexp.validation import UserError


@dataclass(frozen=True)
class Context:
    """The arguments of a strategy; some need statistics of ``tokens``, the text to mask."""

    config: MaskingConfig
    tokenizer: Tokenizer
    tokens: TokenStore


class Strategy(ABC):
    """Which tokens are predicted together, and with what probability.

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


class WordStrategy(Strategy):
    """A strategy whose units consist of whole words."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        if not context.tokenizer.knows_words:
            raise UserError(
                f"masking.strategy={context.config.strategy}: the tokenizer has no pieces that "
                "continue a word, so that words cannot be found; choose "
                "masking.strategy=token or another tokenizer."
            )

    def words(self, ids_BL: np.ndarray, maskable_BL: np.ndarray) -> Words:
        return batch_words(ids_BL, maskable_BL, self.context.tokenizer)


@STRATEGIES.register("whole_word")
class WholeWordStrategy(WordStrategy):
    """All pieces of a word or none of them.

    BERT's authors added it to their code in May 2019 (google-research/bert); Cui et al. 2021,
    "Pre-training with whole word masking for Chinese BERT". They shuffle the words and take them
    until a budget is spent; for how they are drawn here see ``strategies``.
    """

    def begins(
        self, ids_BL: np.ndarray, maskable_BL: np.ndarray, states_B: np.ndarray
    ) -> np.ndarray:
        opens_N, tokenizer = row_starts(ids_BL).ravel(), self.context.tokenizer
        begins_N = word_begins(ids_BL.ravel(), maskable_BL.ravel(), opens_N, tokenizer)
        return begins_N.reshape(ids_BL.shape)
