"""Units that are runs of words: SpanBERT's spans, n-grams, and the collocations of PMI-masking."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bertexp import draws
from bertexp.arrays import ranges, save_array
from bertexp.data.cache import cached
from bertexp.data.tokens.store import TokenStore
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.masking import STRATEGIES
from bertexp.masking.config import NgramKeys, PmiKeys, SpanKeys
from bertexp.masking.strategies import Context, WordStrategy
from bertexp.masking.words import RunCounts, RunHashes, Words, count_runs, find_sorted, find_words
from bertexp.validation import UserError

# Of the cached collocations.
FORMAT_VERSION = 1
# The longest collocation, in words.
LONGEST = 5


def cut_into_runs(words: Words, sizes_W: np.ndarray, maskable_BL: np.ndarray) -> np.ndarray:
    """Return where units begin, shape (batch, length), see ``cut``."""
    begins_N = ~maskable_BL.ravel()
    begins_N[words.starts_W] = cut(words, sizes_W)
    return begins_N.reshape(maskable_BL.shape)


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
        shares: the probability of each length, from 1 on.
    """

    def __init__(self, context: Context, shares: np.ndarray) -> None:
        super().__init__(context)
        at_least = np.cumsum(shares[::-1])[::-1]
        self._later = np.cumsum(shares)
        self._first = np.cumsum(at_least / at_least.sum())

    def begins(
        self, ids_BL: np.ndarray, maskable_BL: np.ndarray, states_B: np.ndarray
    ) -> np.ndarray:
        words = self.words(ids_BL, maskable_BL)
        rows_W, columns_W = np.divmod(words.starts_W, ids_BL.shape[1])
        drawn_W = draws.uniform(draws.combine(states_B[rows_W], columns_W))
        # The last cumulative probability is 1 up to rounding, and is left out.
        sizes_W = 1 + np.searchsorted(self._later[:-1], drawn_W, side="right")
        first_W = words.first_W
        sizes_W[first_W] = 1 + np.searchsorted(self._first[:-1], drawn_W[first_W], side="right")
        return cut_into_runs(words, sizes_W, maskable_BL)


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
        shares = (1 - keys.p) ** np.arange(keys.max)
        super().__init__(context, shares / shares.sum())


@STRATEGIES.register("ngram")
class NgramStrategy(RunStrategy):
    """Runs of 1 to ``masking.ngram.max`` words, with lengths of equal probability.

    ALBERT's n-gram masking (Lan et al. 2020, section 4.1) has probabilities in proportion to 1/n;
    uniform lengths are the simple case.
    """

    def __init__(self, context: Context) -> None:
        longest = STRATEGIES.keys_of(context.config, NgramKeys).max
        super().__init__(context, np.full(longest, 1 / longest))


@STRATEGIES.register("pmi")
class PmiStrategy(WordStrategy):
    """Collocations of 2 to 5 words, or words (Levine et al. 2021, "PMI-Masking").

    The collocations are those of the runs with at least ``masking.pmi.min_count`` occurrences
    in the training corpus whose PMI_n (``collocation_scores``) is positive and among the best
    ``masking.pmi.share`` of their length. A text is read from left to right and cut into the
    longest collocations that fit. The paper has a list of 800,000 for 16 GB of text, with at least
    10 occurrences each, and draws units until 15% of the tokens are covered; here the list grows
    with the corpus, and units are drawn as described in ``strategies``.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        keys = STRATEGIES.keys_of(context.config, PmiKeys)
        key = {
            "format": FORMAT_VERSION,
            "tokens": context.tokens.fingerprint,
            "min_count": keys.min_count,
            "share": keys.share,
        }

        def build(folder: Path) -> None:
            found = find_collocations(context.tokens, context.tokenizer, keys.min_count, keys.share)
            if not any(map(len, found.values())):
                raise UserError(
                    "masking.strategy=pmi: no run of 2 to 5 words occurs "
                    f"{keys.min_count} times or more, and more often than by chance, in "
                    f"the {len(context.tokens.tokens):,} training tokens: choose a larger corpus "
                    "or a lower masking.pmi.min_count."
                )
            for size, hashes in found.items():
                save_array(folder / f"{size}.npy", hashes)

        folder = cached("collocations", key, build)
        self.collocations = {n: np.load(folder / f"{n}.npy") for n in range(2, LONGEST + 1)}

    def begins(
        self, ids_BL: np.ndarray, maskable_BL: np.ndarray, states_B: np.ndarray
    ) -> np.ndarray:
        words = self.words(ids_BL, maskable_BL)
        hashes = RunHashes(ids_BL.ravel())
        sizes_W = np.ones(len(words.starts_W), dtype=np.int64)
        for size, known in self.collocations.items():
            fits = np.flatnonzero(np.arange(len(sizes_W)) + size <= words.limits_W)
            runs = hashes.of(words.starts_W[fits], words.ends_W[fits + size - 1])
            sizes_W[fits[find_sorted(known, runs) >= 0]] = size
        return cut_into_runs(words, sizes_W, maskable_BL)


def find_collocations(
    tokens: TokenStore, tokenizer: Tokenizer, min_count: int, share: float
) -> dict[int, np.ndarray]:
    """Return the sorted hashes of the collocations of each length, see ``PmiStrategy``."""
    found = {}
    for size, (runs, scores) in collocation_scores(tokens, tokenizer, min_count).items():
        best = np.argsort(-scores, kind="stable")[: round(share * len(scores))]
        found[size] = np.sort(runs.hashes[best[scores[best] > 0]])
    return found


def collocation_scores(
    tokens: TokenStore, tokenizer: Tokenizer, min_count: int
) -> dict[int, tuple[RunCounts, np.ndarray]]:
    """Return the runs of 2 to 5 words with at least ``min_count`` occurrences, and their PMI_n.

    PMI_n of a run is the logarithm of its probability over the largest product of its parts'
    probabilities, over all ways to cut it into two or more parts (Levine et al. 2021): how much
    likelier it is than its best explanation by shorter runs. The probability of a run is its share
    of all runs of its length.
    """
    tables: dict[int, RunCounts] = {}
    log_probs: dict[int, np.ndarray] = {}
    for size in range(1, LONGEST + 1):
        every = count_runs(tokens, tokenizer, size)
        # Shorter runs are at least as frequent as those that contain them, so none is missing.
        kept = every.counts >= min_count
        tables[size] = RunCounts(*(column[kept] for column in every))
        log_probs[size] = np.log(tables[size].counts / max(every.counts.sum(), 1))
    return {
        size: (tables[size], _scores(size, tables, log_probs, tokens, tokenizer))
        for size in range(2, LONGEST + 1)
    }


def _scores(
    size: int,
    tables: dict[int, RunCounts],
    log_probs: dict[int, np.ndarray],
    tokens: TokenStore,
    tokenizer: Tokenizer,
) -> np.ndarray:
    runs = tables[size]
    lengths = runs.ends - runs.starts
    ids_N = np.asarray(tokens.tokens[ranges(lengths, runs.starts)])
    opens_N = ranges(lengths) == 0
    words = find_words(ids_N, np.ones_like(opens_N), opens_N, tokenizer)
    starts_KS = words.starts_W.reshape(-1, size)
    ends_KS = words.ends_W.reshape(-1, size)
    hashes = RunHashes(ids_N)
    # The best explanation of each part, as a whole or cut, by its first and last word.
    best: dict[tuple[int, int], np.ndarray] = {}
    for length in range(1, size):
        for first in range(size - length + 1):
            last = first + length - 1
            part = hashes.of(starts_KS[:, first], ends_KS[:, last])
            whole = log_probs[length][find_sorted(tables[length].hashes, part)]
            best[first, last] = np.maximum(whole, _best_cut(best, first, last))
    return log_probs[size] - _best_cut(best, 0, size - 1)


def _best_cut(best: dict[tuple[int, int], np.ndarray], first: int, last: int) -> np.ndarray | float:
    cuts = [best[first, k] + best[k + 1, last] for k in range(first, last)]
    return np.max(cuts, axis=0) if cuts else -np.inf
