"""What a strategy is: a partition of sequences into units that are predicted as wholes.

Every unit has one score, a uniform draw in [0, 1), and is predicted where score / weight is
below a threshold that depends on the rate alone. Units are drawn independently, where the
papers draw one after the other until a budget of tokens is spent. What this gains:

- the expected share of predicted tokens is exactly the rate, at every rate and length: there
  is no last unit that is cut off or overshoots, and no cap;
- the units predicted at one rate are among those predicted at any higher one;
- the mask of a sequence needs nothing but its own tokens.

What it costs: the number of predicted tokens varies from sequence to sequence, the more the
longer the units are, where a budget fixes it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from bertexp.data.tokens.store import TokenStore
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.masking import STRATEGIES
from bertexp.masking.config import MaskingConfig


@dataclass(frozen=True)
class Context:
    """What a strategy is built from.

    Attributes:
        config: ``masking.*``.
        tokens: the text that is masked, for strategies that need its statistics.
    """

    config: MaskingConfig
    tokenizer: Tokenizer
    tokens: TokenStore


class Strategy(ABC):
    """Which tokens are predicted together, and how likely.

    Args:
        context: what there is to build from.

    Raises:
        UserError: the tokenizer or the text lacks what the strategy needs.
    """

    def __init__(self, context: Context) -> None:
        self.context = context

    @abstractmethod
    def begins(
        self, ids_BL: np.ndarray, maskable_BL: np.ndarray, states_B: np.ndarray
    ) -> np.ndarray:
        """Return where units begin, ``bool`` of shape (batch, length).

        A unit extends to the next beginning; the first position always begins one. Of a
        unit only its maskable positions are predicted. A row must depend on nothing but
        itself, without its padding.

        Args:
            ids_BL: token ids as written.
            maskable_BL: where a token may be predicted: no special token, no padding.
            states_B: a ``uint64`` an example for ``bertexp.draws``, for units that are drawn.
        """

    def weights(self, ids_BL: np.ndarray, maskable_BL: np.ndarray) -> np.ndarray | None:
        """Return a positive weight for each position, equal within a unit; None for 1."""
        return None

    def threshold(self, prob: float) -> float:
        """Return what score / weight must be below at the rate ``prob``; must grow with it."""
        return prob


@STRATEGIES.register("token")
class TokenStrategy(Strategy):
    """Each token on its own, with the same probability (Devlin et al. 2019, section 3.1)."""

    def begins(
        self, ids_BL: np.ndarray, maskable_BL: np.ndarray, states_B: np.ndarray
    ) -> np.ndarray:
        return np.ones(ids_BL.shape, dtype=bool)
