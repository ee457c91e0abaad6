"""Token stores made of numbers, for the tests of tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from bertexp.data.tokens.store import TokenStore
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.data.tokens.wordpiece import SPECIAL_TOKENS, bert_backend

WORDS = 300

Documents = Sequence[Sequence[Sequence[Sequence[int]]]]


def build_store(documents: Documents) -> TokenStore:
    """Return documents of paragraphs of sentences of ids, none of them empty, as a store."""
    paragraphs = [paragraph for document in documents for paragraph in document]
    sentences = [sentence for paragraph in paragraphs for sentence in paragraph]
    tokens = [token for sentence in sentences for token in sentence]

    def offsets(units: Sequence[Sequence[object]]) -> np.ndarray:
        return np.cumsum([0, *map(len, units)], dtype=np.int64)

    return TokenStore(
        np.array(tokens, dtype=np.uint16),
        offsets(sentences),
        offsets(paragraphs),
        offsets(documents),
        "made for a test",
    )


@pytest.fixture(scope="session")
def store_of() -> Callable[[Documents], TokenStore]:
    return build_store


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """The five special tokens, then w0, w1, ..., each an id."""
    names = [*SPECIAL_TOKENS, *(f"w{number}" for number in range(WORDS))]
    vocabulary = {name: index for index, name in enumerate(names)}
    backend = bert_backend(vocabulary, lowercase=True)
    return Tokenizer(backend)
