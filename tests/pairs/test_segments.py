"""BERT's segments: as many sentences as fit, some pairs short, cut at either end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numbered import build_store
from scipy import stats

from bertexp.objectives.pair_examples import PairExamples
from bertexp.pairs.segments import FilledSegments
from bertexp.pairs.text import Text

from .conftest import NUMBERED, numbered

ALARM = 1e-9


@settings(deadline=None)
@given(corpus=NUMBERED, capacity=st.integers(5, 60))
def test_chunks_hold_every_sentence_once_and_fill_the_room(corpus: list, capacity: int) -> None:
    segmentation = FilledSegments(Text(build_store(corpus)), capacity, short_prob=0.0)
    spans = segmentation.draw(seed=0, epoch=0)
    documents = [[s for paragraph in document for s in paragraph] for document in corpus]
    starts = np.cumsum([0, *map(len, documents)])
    lengths = [len(sentence) for document in documents for sentence in document]
    covered: list[int] = []
    for first, end in zip(spans.first.tolist(), spans.end.tolist(), strict=True):
        covered += range(first, end)
        own = np.searchsorted(starts, first, side="right") - 1
        assert end <= starts[own + 1], "a chunk is of one document"
        if end < starts[own + 1]:
            # The fewest sentences that fill the capacity, or two.
            assert sum(lengths[first:end]) >= capacity
            assert sum(lengths[first : end - 1]) < capacity or end - first == 2
    several = [
        n for d, s in enumerate(documents) if len(s) > 1 for n in range(starts[d], starts[d + 1])
    ]
    assert covered == several


def long_corpus() -> list:
    generator = np.random.default_rng(0)
    return numbered([[generator.integers(3, 12, 9).tolist() for _ in range(8)] for _ in range(40)])


def test_a_tenth_of_the_pairs_is_short(build: Callable[..., PairExamples]) -> None:
    changed = {"segments": "fill", "max_length": 64}
    never = build(long_corpus(), short_prob=0.0, **changed)
    some = build(long_corpus(), short_prob=0.1, **changed)
    always = build(long_corpus(), short_prob=1.0, **changed)
    shorter = total = 0
    for epoch in range(20):
        # The rest of a document is short by itself.
        full = never.lengths(epoch) == 64
        shorter += int((some.lengths(epoch)[full] < 64).sum())
        total += int(full.sum())
    # A target that is drawn above what two sentences have is no shortening: rare.
    assert stats.binomtest(shorter, total, 0.1).proportion_ci(1 - ALARM).low < 0.1
    assert 0.07 < shorter / total < 0.11
    targets = np.concatenate([always.lengths(epoch) for epoch in range(20)]) - 3
    assert targets.min() < 6
    assert targets.max() == 61


def test_filled_pairs_are_full_whatever_their_kind(build: Callable[..., PairExamples]) -> None:
    examples = build(long_corpus(), segments="fill", max_length=64, short_prob=0.0)
    lengths, kinds = examples.lengths(0), examples.strata(0)
    for kind in (0, 1):
        assert np.mean(lengths[kinds == kind] == 64) > 0.7


def test_long_segments_lose_their_front_or_their_back(build: Callable[..., PairExamples]) -> None:
    corpus = numbered([[[40, 40]] for _ in range(300)])
    examples = build(corpus, segments="fill", max_length=43, short_prob=0.0)
    pairs = examples.drawer.pairs(0)
    starts = np.array([sentence[0] for document in corpus for sentence in document[0]]) - 1000
    for first, sentences in (
        (pairs.first_starts, pairs.first_sentences),
        (pairs.second_starts, pairs.second_sentences),
    ):
        lost_front = first - starts[sentences]
        assert set(lost_front.tolist()) == {0, 20}
        assert stats.binomtest(int((lost_front > 0).sum()), 300, 0.5).pvalue > ALARM
