"""Masking that follows the model: what it predicts badly is masked more often."""

from __future__ import annotations

import copy
from typing import Self

import numpy as np

from bertexp.masking import STRATEGIES
from bertexp.masking.frequency import clipped_shares
from bertexp.masking.strategies import Context, TokenStrategy

# Of the tokens that are at least this share of the text, so many are shown.
FREQUENT, SHOWN = 1e-4, 6


@STRATEGIES.register("adaptive")
class AdaptiveStrategy(TokenStrategy):
    """Each token on its own, with a rate that follows how well the model predicts it.

    Adaptive masked language modelling (Edman and Fraser 2025, "Mask and you shall receive",
    section 2): every ``masking.adaptive.every`` steps the weight of each token of the vocabulary
    becomes 0.2 times what it was and 0.8 times the share of its predictions since the last update
    that were wrong (theirs "hard") or its loss ("soft"), see ``AdaptiveRates``. All weights are
    equal at first, so masking begins as ``token``, which is what an audit or a look at examples
    shows.

    What differs: they scale the weights of each sequence to the rate, so the rate of a token
    depends on its neighbours; here it is min(1, factor * weight), with the one factor that makes
    the expected share of predicted tokens over the training text the configured rate.
    """

    adapts = True

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        is_special_V = context.tokenizer.is_special_V
        self.counts_V = np.where(is_special_V, 0, context.tokens.counts(len(is_special_V)))
        self._weigh(np.ones(len(is_special_V)))

    def following(self, weights_V: np.ndarray) -> Self:
        other = copy.copy(self)
        other._weigh(weights_V[: len(self.counts_V)].astype(np.float64))
        return other

    def _weigh(self, weights_V: np.ndarray) -> None:
        share_V = self.counts_V / max(self.counts_V.sum(), 1)
        self.weights_V = weights_V / ((weights_V * share_V).sum() or 1.0)
        self._factors, self._shares = clipped_shares(self.weights_V, share_V)

    def extremes(self) -> tuple[dict[int, float], dict[int, float]]:
        """Return the tokens that are masked most and least often among frequent ones.

        Each with its rate, as a multiple of that of all tokens.
        """
        frequent = np.flatnonzero(self.counts_V >= max(self.counts_V.sum() * FREQUENT, 1))
        order = frequent[np.argsort(-self.weights_V[frequent], kind="stable")].tolist()
        most, least = order[:SHOWN], order[::-1][:SHOWN]
        found = [{token: float(self.weights_V[token]) for token in part} for part in (most, least)]
        return found[0], found[1]

    def weights(self, ids_BL: np.ndarray, maskable_BL: np.ndarray) -> np.ndarray:
        weights_BL: np.ndarray = self.weights_V[ids_BL]
        return weights_BL

    def threshold(self, rates_B: np.ndarray) -> np.ndarray:
        return np.interp(rates_B, self._shares, self._factors)
