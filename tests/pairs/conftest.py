"""Examples of pairs from documents of numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from bertexp.config import Config
from bertexp.data.tokens.store import TokenStore
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.data.tokens.wordpiece import SPECIAL_TOKENS, bert_backend
from bertexp.pairs.examples import PairExamples

WORDS = 300
SEGMENTS = ("sentence", "fill", "paragraph")
KINDS = ("other_document", "same_document", "any_sentence", "swap")


def build_store(documents: list) -> TokenStore:
    """Return documents of paragraphs of sentences of ids, none of them empty, as a store."""
    paragraphs = [paragraph for document in documents for paragraph in document]
    sentences = [sentence for paragraph in paragraphs for sentence in paragraph]

    def offsets(units: list) -> np.ndarray:
        return np.cumsum([0, *map(len, units)], dtype=np.int64)

    return TokenStore(
        np.array(list(itertools.chain(*sentences)), dtype=np.uint32),
        *(offsets(sentences), offsets(paragraphs), offsets(documents)),
        "made for a test",
    )


def corpora(sentences: st.SearchStrategy[Any]) -> st.SearchStrategy[list]:
    """Draw documents of paragraphs of sentences."""
    paragraph = st.lists(sentences, min_size=1, max_size=5)
    return st.lists(st.lists(paragraph, min_size=1, max_size=4), min_size=2, max_size=6)


def numbered(lengths: list) -> list:
    """Return a corpus with these lengths of sentences in which no token occurs twice."""
    counter: Iterator[int] = itertools.count(1000)
    return [
        [[list(itertools.islice(counter, length)) for length in paragraph] for paragraph in doc]
        for doc in lengths
    ]


STOP = 5
# Few words make sentences that read alike.
WORDY = st.sampled_from([2, 3, 290]).flatmap(
    lambda words: corpora(
        st.lists(st.integers(6, 5 + words), max_size=3).map(lambda sentence: [*sentence, STOP])
    )
)
NUMBERED = corpora(st.integers(1, 12)).map(numbered)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """The five special tokens, then w0, w1, ..., each an id."""
    names = [*SPECIAL_TOKENS, *(f"w{number}" for number in range(WORDS))]
    backend = bert_backend({name: index for index, name in enumerate(names)}, lowercase=True)
    return Tokenizer(backend)


@pytest.fixture(scope="session")
def build(
    experiment_config: Callable[..., Config], tokenizer: Tokenizer
) -> Callable[..., PairExamples]:
    """Return a function that makes pairs of a corpus, with any of ``task.*`` changed."""
    config = experiment_config("task=nsp").task

    def examples(corpus: list, seed: int = 0, **changed: Any) -> PairExamples:
        from dataclasses import replace

        return PairExamples(build_store(corpus), replace(config, **changed), tokenizer, seed, "nsp")

    return examples
