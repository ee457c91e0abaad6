"""Examples of pairs from documents of numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import strategies as st
from numbered import build_store, word_tokenizer

from bertexp.config import Config
from bertexp.objectives.pair_examples import PairExamples

SEGMENTS = ("sentence", "fill", "paragraph")
KINDS = ("other_document", "same_document", "any_sentence", "swap")


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
def build(experiment_config: Callable[..., Config]) -> Callable[..., PairExamples]:
    """Return a function that makes pairs of a corpus, with any of ``task.*`` changed."""
    config, tokenizer = experiment_config("task=nsp").task, word_tokenizer()

    def examples(corpus: list, seed: int = 0, **changed: Any) -> PairExamples:
        from dataclasses import replace

        return PairExamples(build_store(corpus), replace(config, **changed), tokenizer, seed, "nsp")

    return examples
