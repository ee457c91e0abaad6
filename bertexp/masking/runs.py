"""Units that are runs of words of random lengths: SpanBERT's spans and n-grams."""

from __future__ import annotations

import numpy as np

from bertexp import draws
from bertexp.masking import STRATEGIES
from bertexp.masking.config import NgramKeys, SpanKeys
from bertexp.masking.strategies import Context
from bertexp.masking.words import Words, WordStrategy


def cut(words: Words, sizes_W: np.ndarray) -> np.ndarray:
    """Return the words with which units begin: the first, the one after its unit, and so on.

    Each stretch of words is cut separately. The chain of jumps from unit to unit is followed by
    doubling, in as many passes as a stretch's length has binary digits. ``sizes_W`` is the number
    of words of a unit that begins with each word.
    """
    count = len(sizes_W)
    jumps = np.append(np.minimum(np.arange(count) + sizes_W, words.limits_W), count)
    begins = np.append(words.first_W, False)
    longest = int((words.limits_W - np.arange(count)).max(initial=0))
    for _ in range(longest.bit_length()):
        begins[jumps[begins]] = True
        jumps = jumps[jumps]
    return begins[:-1]


class RunStrategy(WordStrategy):
    """Words cut into consecutive runs, whose lengths are independent draws from one distribution.

    The first run of a stretch is drawn as if the cutting had begun long before: it is the rest,
    from a random word on, of the run that contains that word (a stationary renewal process). So a
    run is no more likely to begin at the first word than at any other.

    Args:
        law: the probability of each length, from 1 on.
    """

    def __init__(self, context: Context, law: np.ndarray) -> None:
        super().__init__(context)
        at_least = np.cumsum(law[::-1])[::-1]
        self._law = np.cumsum(law)
        self._first_law = np.cumsum(at_least / at_least.sum())

    def begins(
        self, ids_BL: np.ndarray, maskable_BL: np.ndarray, states_B: np.ndarray
    ) -> np.ndarray:
        words = self.words(ids_BL, maskable_BL)
        rows_W, columns_W = np.divmod(words.starts_W, ids_BL.shape[1])
        drawn_W = draws.uniform(draws.combine(states_B[rows_W], columns_W))
        # The last cumulative probability is 1 up to rounding, and is left out.
        sizes_W = 1 + np.searchsorted(self._law[:-1], drawn_W, side="right")
        first_W = words.first_W
        sizes_W[first_W] = 1 + np.searchsorted(self._first_law[:-1], drawn_W[first_W], side="right")
        begins_N = ~maskable_BL.ravel()
        begins_N[words.starts_W] = cut(words, sizes_W)
        return begins_N.reshape(ids_BL.shape)


@STRATEGIES.register("span")
class SpanStrategy(RunStrategy):
    """Spans of whole words with geometric lengths (Joshi et al. 2020, "SpanBERT", section 3.1).

    The distribution is theirs: geometric with ``masking.span.p`` (0.2), truncated at
    ``masking.span.max`` (10) words and normalised, with a mean of 3.8 words. They draw spans one
    by one until 15% of the tokens are covered; here the whole text is cut into spans, which are
    drawn as described in ``strategies``.
    """

    def __init__(self, context: Context) -> None:
        keys = STRATEGIES.keys_of(context.config, SpanKeys)
        law = (1 - keys.p) ** np.arange(keys.max)
        super().__init__(context, law / law.sum())


@STRATEGIES.register("ngram")
class NgramStrategy(RunStrategy):
    """Runs of 1 to ``masking.ngram.max`` words, with lengths of equal probability.

    ALBERT's n-gram masking (Lan et al. 2020, section 4.1) has probabilities in proportion to 1/n;
    uniform lengths are the simple case.
    """

    def __init__(self, context: Context) -> None:
        longest = STRATEGIES.keys_of(context.config, NgramKeys).max
        super().__init__(context, np.full(longest, 1 / longest))
