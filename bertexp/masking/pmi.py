"""PMI-masking, whose units are collocations."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bertexp.data.cache import cached
from bertexp.data.tokens.store import TokenStore
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.masking import STRATEGIES
from bertexp.masking.config import PmiKeys
from bertexp.masking.counts import RunCounts, count_runs, find_sorted
from bertexp.masking.runs import cut
from bertexp.masking.strategies import Context
from bertexp.masking.words import RunHashes, WordStrategy, find_words
from bertexp.validation import UserError

FORMAT_VERSION = 1
LONGEST = 5


@STRATEGIES.register("pmi")
class PmiStrategy(WordStrategy):
    """Collocations of 2 to 5 words, or words (Levine et al. 2021, "PMI-Masking").

    The collocations are those of the runs with at least ``masking.pmi.min_count`` occurrences
    in the training corpus whose PMI_n (``collocation_scores``) is positive and among the best
    ``masking.pmi.share`` of their length. A text is read from left to right and cut into the
    longest collocations that fit. Theirs is a list of 800,000 for 16 GB of text, at least 10
    occurrences each, and units are drawn until 15% of the tokens are covered; here the list
    grows with the corpus; for how units are drawn see ``strategies``.
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
                np.save(folder / f"{size}.npy", hashes)

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
        begins_N = ~maskable_BL.ravel()
        begins_N[words.starts_W] = cut(words, sizes_W)
        return begins_N.reshape(ids_BL.shape)


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
    firsts = np.cumsum(lengths) - lengths
    places = np.repeat(runs.starts - firsts, lengths) + np.arange(lengths.sum())
    ids_N = np.asarray(tokens.tokens[places])
    opens_N = np.zeros(len(ids_N), dtype=bool)
    opens_N[firsts] = True
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
            whole = log_probs[length][tables[length].find(part)]
            best[first, last] = np.maximum(whole, _best_cut(best, first, last))
    return log_probs[size] - _best_cut(best, 0, size - 1)


def _best_cut(best: dict[tuple[int, int], np.ndarray], first: int, last: int) -> np.ndarray | float:
    cuts = [best[first, k] + best[k + 1, last] for k in range(first, last)]
    return np.max(cuts, axis=0) if cuts else -np.inf
