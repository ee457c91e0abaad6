"""A split's sentences, of which pairs consist."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bertexp import draws
from bertexp.arrays import ranges
from bertexp.data.tokens.store import TokenStore

# Sentences hashed at a time, to limit temporary memory.
HASH_CHUNK = 1 << 16


class Text:
    """The sentences of a split by number, and the ends of paragraphs and documents.

    Attributes:
        tokens: the ids of all sentences in order.
        offsets: the start of sentence ``i`` in ``tokens``, with one entry more than sentences.
        paragraph_offsets: those of paragraphs, in sentences.
        document_offsets: those of documents, in sentences.
    """

    def __init__(self, tokens: TokenStore) -> None:
        self.tokens = tokens.tokens
        self.offsets = tokens.sentence_offsets
        self.paragraph_offsets = tokens.paragraph_offsets
        self.document_offsets = tokens.paragraph_offsets[tokens.document_offsets]
        self._store = tokens

    @property
    def hashes(self) -> np.ndarray:
        """A ``uint64`` for each sentence, equal for equal tokens."""
        return _hashes(self._store)

    def document_of(self, sentences: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.document_offsets, sentences, side="right") - 1

    def place_in_paragraph(self, sentences: np.ndarray) -> np.ndarray:
        """Return each sentence's place in its paragraph: 0 for the first, 1 for the last."""
        paragraphs = np.searchsorted(self.paragraph_offsets, sentences, side="right") - 1
        first, end = self.paragraph_offsets[paragraphs], self.paragraph_offsets[paragraphs + 1]
        return (sentences - first) / np.maximum(end - first - 1, 1)


@lru_cache(maxsize=4)
def _hashes(tokens: TokenStore) -> np.ndarray:
    offsets = tokens.sentence_offsets
    hashes = np.empty(len(offsets) - 1, dtype=np.uint64)
    for first in range(0, len(hashes), HASH_CHUNK):
        starts = offsets[first : first + HASH_CHUNK + 1]
        chunk = tokens.tokens[starts[0] : starts[-1]].astype(np.uint64)
        position = ranges(np.diff(starts))
        hashes[first : first + HASH_CHUNK] = np.add.reduceat(
            draws.combine(draws.mix(chunk), position), starts[:-1] - starts[0]
        )
    return hashes
