"""Which tokens are predicted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bertexp.masking import STRATEGIES

# (scores_BL, maskable_BL, prob) -> predicted_BL
Strategy = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


@STRATEGIES.register("token")
def token(scores_BL: np.ndarray, maskable_BL: np.ndarray, prob: float) -> np.ndarray:
    """Each token on its own, with the same probability (Devlin et al. 2019).

    Args:
        scores_BL: a uniform draw in [0, 1) a position, shape (batch, length).
        maskable_BL: where a token may be predicted at all.
        prob: the probability.

    Returns:
        The predicted positions, ``bool`` of shape (batch, length). Those of a lower
        probability lie inside those of a higher one.
    """
    return maskable_BL & (scores_BL < prob)
