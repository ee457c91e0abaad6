"""Token stores and a tokenizer made of numbers, for the tests of tasks."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from bertexp.data.tokens.store import TokenStore
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.data.tokens.wordpiece import SPECIAL_TOKENS, bert_backend

WORDS = 300


def build_store(documents: Any) -> TokenStore:
    """Return documents of paragraphs of sentences of ids, none of them empty, as a store."""
    paragraphs = [paragraph for document in documents for paragraph in document]
    sentences = [sentence for paragraph in paragraphs for sentence in paragraph]

    def offsets(units: Any) -> np.ndarray:
        return np.cumsum([0, *map(len, units)], dtype=np.int64)

    return TokenStore(
        np.array(list(itertools.chain(*sentences)), dtype=np.uint32),
        *(offsets(sentences), offsets(paragraphs), offsets(documents)),
        "made for a test",
    )


def word_tokenizer() -> Tokenizer:
    """Return one with the five special tokens, then w0, w1, ..., each an id."""
    names = [*SPECIAL_TOKENS, *(f"w{number}" for number in range(WORDS))]
    backend = bert_backend({name: index for index, name in enumerate(names)}, lowercase=True)
    return Tokenizer(backend)
