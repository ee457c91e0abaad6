"""The frequencies of words and runs of words in a corpus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from bertexp.data.tokens.store import TokenStore
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.masking.words import RunHashes, find_words

# Tokens counted at a time.
CHUNK_TOKENS = 1 << 21


class RunCounts(NamedTuple):
    """The distinct runs of a number of words, sorted by hash; shape (K,) each.

    Attributes:
        hashes: ``uint64``, see ``RunHashes``.
        counts: occurrences.
        starts, ends: the place of one occurrence in the corpus, in tokens.
    """

    hashes: np.ndarray
    counts: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    def find(self, hashes: np.ndarray) -> np.ndarray:
        """Return the index of each hash in the table, or -1."""
        return find_sorted(self.hashes, hashes)


def find_sorted(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the index of each value in a sorted table, or -1 if it is missing."""
    if len(table) == 0:
        return np.full(values.shape, -1)
    places = np.minimum(np.searchsorted(table, values), len(table) - 1)
    return np.where(table[places] == values, places, -1)


def count_runs(tokens: TokenStore, tokenizer: Tokenizer, size: int) -> RunCounts:
    """Count the runs of ``size`` words; none crosses a special token or a document's end.

    Memory grows with the number of distinct runs.
    """
    total = _merge([])
    for first, last in _chunks(tokens.document_token_offsets):
        ids_N = np.asarray(tokens.tokens[first:last])
        opens_N = np.zeros(len(ids_N), dtype=bool)
        offsets = tokens.document_token_offsets
        inside = offsets[np.searchsorted(offsets, first) : np.searchsorted(offsets, last)]
        opens_N[inside - first] = True
        words = find_words(ids_N, ~tokenizer.is_special_V[ids_N], opens_N, tokenizer)
        whole = np.flatnonzero(np.arange(len(words.starts_W)) + size <= words.limits_W)
        starts, ends = words.starts_W[whole], words.ends_W[whole + size - 1]
        hashes = RunHashes(ids_N).of(starts, ends)
        found = RunCounts(
            hashes, np.ones(len(hashes), dtype=np.int64), starts + first, ends + first
        )
        total = _merge([total, found])
    return total


def _merge(tables: list[RunCounts]) -> RunCounts:
    if not tables:
        empty = np.empty(0, dtype=np.int64)
        return RunCounts(empty.astype(np.uint64), empty, empty, empty)
    columns = [np.concatenate(column) for column in zip(*tables, strict=True)]
    hashes, first, inverse = np.unique(columns[0], return_index=True, return_inverse=True)
    counts = np.zeros(len(hashes), dtype=np.int64)
    np.add.at(counts, inverse, columns[1])
    return RunCounts(hashes, counts, columns[2][first], columns[3][first])


def _chunks(offsets: np.ndarray) -> Iterator[tuple[int, int]]:
    first = 0
    while first < len(offsets) - 1:
        last = int(np.searchsorted(offsets, offsets[first] + CHUNK_TOKENS))
        last = min(max(last, first + 1), len(offsets) - 1)
        yield int(offsets[first]), int(offsets[last])
        first = last
