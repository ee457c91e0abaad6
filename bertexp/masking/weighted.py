"""Masking at different rates: rarer words more often, or what the model predicts badly."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Self

import numpy as np

from bertexp.arrays import save_array
from bertexp.data.cache import cached
from bertexp.data.tokens.store import count_tokens
from bertexp.masking import STRATEGIES
from bertexp.masking.config import FrequencyKeys
from bertexp.masking.strategies import Context, Strategy, TokenStrategy, WholeWordStrategy
from bertexp.masking.words import RunHashes, count_runs, find_sorted

# Of the cached frequencies of words.
FORMAT_VERSION = 1
# How many tokens are shown, of those that are at least this share of the text.
SHOWN, FREQUENT = 6, 1e-4


class Weighted(Strategy):
    """A strategy whose units have the rates min(1, factor * weight).

    The factor, the same for all, makes the expected share of predicted tokens over the training
    text the configured rate.
    """

    def weigh(self, weights: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Set the factors that give each rate, and return the weights, with a mean of 1.

        The expected share of predicted tokens at a factor f is the sum of ``share * min(1, f *
        weights)``, which is linear between neighbouring values of 1 / weight.

        Args:
            share: of all tokens, of which the weights are.
        """
        scaled = weights / ((weights * share).sum() or 1.0)
        order = np.argsort(-scaled, kind="stable")
        weights, share = scaled[order], share[order]
        certain = np.cumsum(share)
        rest = (weights * share).sum() - np.cumsum(weights * share)
        factors = 1 / weights
        self._factors = np.append(0.0, factors)
        self._shares = np.append(0.0, certain + factors * rest)
        return scaled

    def threshold(self, rates_B: np.ndarray) -> np.ndarray:
        return np.interp(rates_B, self._shares, self._factors)


@STRATEGIES.register("frequency")
class FrequencyStrategy(Weighted, WholeWordStrategy):
    """Whole words, each with a rate in proportion to its frequency ** -exponent.

    With ``masking.frequency.exponent=0.5`` these are the weights with which XLM (Lample and
    Conneau 2019, section 3.3) counters frequent tokens, after the subsampling of Mikolov et
    al. 2013; XLM draws a fixed number of tokens with them.

    A word that is not in the corpus, such as one that is cut by the end of an example, has the mean
    weight of a token.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._hashes, counts, sizes = _count_words(context)
        exponent = STRATEGIES.keys_of(context.config, FrequencyKeys).exponent
        tokens = counts * sizes
        weights = self.weigh(counts ** -float(exponent), tokens / max(tokens.sum(), 1))
        # The last entry is for words that are not in the table.
        self._weights = np.append(weights, 1.0)

    def weights(self, ids_BL: np.ndarray, maskable_BL: np.ndarray) -> np.ndarray:
        words = self.words(ids_BL, maskable_BL)
        hashes_W = RunHashes(ids_BL.ravel()).of(words.starts_W, words.ends_W)
        weights_W = self._weights[find_sorted(self._hashes, hashes_W)]
        weights_N = np.ones(ids_BL.size)
        weights_N[maskable_BL.ravel()] = np.repeat(weights_W, words.ends_W - words.starts_W)
        return weights_N.reshape(ids_BL.shape)


def _count_words(context: Context) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the hash, frequency and number of tokens of each word in the training corpus."""

    def build(folder: Path) -> None:
        words = count_runs(context.tokens, context.tokenizer, 1)
        columns = (words.hashes, words.counts, words.ends - words.starts)
        stacked = np.stack([column.astype(np.uint64) for column in columns])
        save_array(folder / "words.npy", stacked)

    key = {"format": FORMAT_VERSION, "tokens": context.tokens.fingerprint}
    hashes, counts, sizes = np.load(cached("words", key, build) / "words.npy", mmap_mode="r")
    return hashes, counts.astype(np.int64), sizes.astype(np.int64)


@STRATEGIES.register("adaptive")
class AdaptiveStrategy(Weighted, TokenStrategy):
    """Each token on its own, with a rate that follows how well the model predicts it.

    Adaptive masked language modelling (Edman and Fraser 2025, "Mask and you shall receive",
    section 2): every ``masking.adaptive.every`` steps the weight of each token of the vocabulary
    becomes 0.2 times what it was and 0.8 times the share of its predictions since the last update
    that were wrong ("hard" in the paper) or its loss ("soft"), see ``AdaptiveRates``. All weights
    are equal at first, so masking begins as ``token``, which is what an audit or a look at
    examples shows. In the paper the weights of each sequence are scaled to the rate, so that the
    rate of a token depends on its neighbours; here it does not.
    """

    adapts = True

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.counts_V = count_tokens(context.tokens, context.tokenizer)
        self._share_V = self.counts_V / max(self.counts_V.sum(), 1)
        self.weights_V = self.weigh(np.ones(len(self.counts_V)), self._share_V)

    def following(self, weights_V: np.ndarray) -> Self:
        other = copy.copy(self)
        known_V = weights_V[: len(self.counts_V)].astype(np.float64)
        other.weights_V = other.weigh(known_V, self._share_V)
        return other

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
        return self.weights_V[ids_BL]
