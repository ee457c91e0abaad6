"""The words of token sequences, hashes of runs of words, and their frequencies in a corpus."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bertexp import draws
from bertexp.data.tokens.store import TokenStore
from bertexp.data.tokens.tokenizer import Tokenizer

_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64
_INVERSE = pow(_BASE, -1, 2**64)
# Tokens counted at a time.
CHUNK_TOKENS = 1 << 21


@dataclass(frozen=True)
class Words:
    """The words of concatenated sequences, as places in the array of their tokens.

    Special tokens and the ends of sequences divide words into stretches.

    Attributes:
        starts_W: each word's first token.
        ends_W: the place after its last one.
        limits_W: the number of the first word after the word's stretch.
    """

    starts_W: np.ndarray
    ends_W: np.ndarray
    limits_W: np.ndarray

    @property
    def first_W(self) -> np.ndarray:
        return np.append(True, self.limits_W[1:] != self.limits_W[:-1])[: len(self.limits_W)]


def word_begins(
    ids_N: np.ndarray, maskable_N: np.ndarray, opens_N: np.ndarray, tokenizer: Tokenizer
) -> np.ndarray:
    """Return where words begin; ``opens_N`` is True at the first token of a sequence.

    A piece whose word began before the sequence, or before a special token, begins one.
    """
    cut_off_N = opens_N.copy()
    cut_off_N[1:] |= ~maskable_N[:-1]
    return maskable_N & tokenizer.begins_words(ids_N, cut_off_N)


def find_words(
    ids_N: np.ndarray, maskable_N: np.ndarray, opens_N: np.ndarray, tokenizer: Tokenizer
) -> Words:
    begins_N = word_begins(ids_N, maskable_N, opens_N, tokenizer)
    starts_W = np.flatnonzero(begins_N)
    number_N = np.cumsum(begins_N) - 1
    ends_W = starts_W + np.bincount(number_N[maskable_N], minlength=len(starts_W))
    # A stretch continues if a word begins right after the one before, in the same sequence.
    opens_W = opens_N[starts_W]
    opens_W[1:] |= starts_W[1:] != ends_W[:-1]
    opens_W[:1] = True
    firsts = np.flatnonzero(opens_W)
    sizes = np.diff(np.append(firsts, len(starts_W)))
    return Words(starts_W, ends_W, np.repeat(firsts + sizes, sizes))


def batch_words(ids_BL: np.ndarray, maskable_BL: np.ndarray, tokenizer: Tokenizer) -> Words:
    """Return the words of a batch, as places in the flattened one."""
    opens_N = row_starts(ids_BL).ravel()
    return find_words(ids_BL.ravel(), maskable_BL.ravel(), opens_N, tokenizer)


def row_starts(ids_BL: np.ndarray) -> np.ndarray:
    """Return True for the first token of each row, shape (batch, length)."""
    starts_BL = np.zeros(ids_BL.shape, dtype=bool)
    starts_BL[:, :1] = True
    return starts_BL


class RunHashes:
    """Hashes of runs of tokens, equal for equal runs anywhere, each in O(1).

    A hash is a polynomial in an odd base modulo 2**64 (Karp and Rabin 1987), whose coefficients are
    mixed ids: the difference of two prefix sums, divided by a power of the base.
    """

    def __init__(self, ids_N: np.ndarray) -> None:
        powers_N = np.full(len(ids_N), _BASE, dtype=np.uint64)
        np.multiply.accumulate(powers_N, out=powers_N)
        terms_N = draws.mix(ids_N.astype(np.uint64) + np.uint64(1)) * powers_N
        self._sums = np.append(np.uint64(0), np.cumsum(terms_N, dtype=np.uint64))
        self._inverses = np.full(len(ids_N) + 1, _INVERSE, dtype=np.uint64)
        self._inverses[0] = 1
        np.multiply.accumulate(self._inverses, out=self._inverses)

    def of(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Return the hash (``uint64``) of each run from ``starts`` to ``ends``, ends excluded."""
        return draws.mix((self._sums[ends] - self._sums[starts]) * self._inverses[starts])


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
