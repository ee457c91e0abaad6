"""Sentence pairs: as many of each kind as asked for, true to their labels, cut as others cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from bertexp.config import Config
from bertexp.tasks.base import Batch
from bertexp.tasks.nsp import NextSentencePrediction, PairExamples
from bertexp.tokens.tokenizer import WordPieceTokenizer
from bertexp.training.plan import BatchPlan, load_steps
from bertexp.validation import UserError

PAD, UNK, CLS, SEP, MASK = range(5)
IS_NEXT, NOT_NEXT = 0, 1
ALARM = 1e-9
SEEDS = st.integers(0, 2**32 - 1)


def documents(words: int) -> st.SearchStrategy[list]:
    """Draw documents of sentences over so many words: few words make equal sentences."""
    sentence = st.lists(st.integers(5, 4 + words), min_size=1, max_size=12)
    paragraph = st.lists(sentence, min_size=1, max_size=5)
    return st.lists(st.lists(paragraph, min_size=1, max_size=4), min_size=2, max_size=6)


CORPORA = st.sampled_from([3, 300]).flatmap(documents)


@pytest.fixture(scope="module")
def build(
    experiment_config: Callable[..., Config], tokenizer: WordPieceTokenizer, store_of: Callable
) -> Callable[..., PairExamples]:
    config = experiment_config("task=nsp")

    def examples(
        corpus: list, max_length: int = 64, next_prob: float = 0.5, seed: int = 0
    ) -> PairExamples:
        config.task.max_length = max_length
        config.task.next_prob = next_prob
        task = NextSentencePrediction(config.task, tokenizer)
        return task.examples(store_of(corpus), config.masking, seed)

    return examples


def drawn(examples: PairExamples, epoch: int = 0) -> Batch:
    """Return all pairs of an epoch; a corpus of nearly one sentence has none."""
    try:
        return examples.batch(epoch, np.arange(len(examples)))
    except UserError as error:
        assert "repeats one sentence too often" in str(error)
        assume(False)
        raise


def sides(batch: Batch) -> list[tuple[list[int], list[int]]]:
    """Return the two sentences of each pair, read from the ids as BERT lays them out."""
    found = []
    for row, segments in zip(
        batch.input_ids_BL.tolist(), batch.token_type_ids_BL.tolist(), strict=True
    ):
        first_end = row.index(SEP)
        second_end = row.index(SEP, first_end + 1)
        assert row[0] == CLS
        assert set(row[second_end + 1 :]) <= {PAD}
        padding = [0] * (len(row) - second_end - 1)
        assert segments == [0] * (first_end + 1) + [1] * (second_end - first_end) + padding
        found.append((row[1:first_end], row[first_end + 1 : second_end]))
    return found


@settings(deadline=None, max_examples=150)
@given(corpus=CORPORA, seed=SEEDS, epoch=st.integers(0, 50), next_prob=st.floats(0.01, 0.99))
def test_as_many_pairs_follow_as_were_asked_for(
    build: Callable[..., PairExamples], corpus: list, seed: int, epoch: int, next_prob: float
) -> None:
    several = sum(len(paragraph) > 1 for document in corpus for paragraph in document)
    assume(several >= 2)
    examples = build(corpus, next_prob=next_prob, seed=seed)
    labels = drawn(examples, epoch).next_labels_B
    assert len(examples) == len(labels) == several, "one pair for each paragraph that has two"
    assert abs((labels == IS_NEXT).sum().item() - several * next_prob) <= 0.5
    assert set(labels.tolist()) <= {IS_NEXT, NOT_NEXT}


@settings(deadline=None, max_examples=150)
@given(corpus=CORPORA, seed=SEEDS, epoch=st.integers(0, 50))
def test_pairs_are_what_their_labels_say(
    build: Callable[..., PairExamples], corpus: list, seed: int, epoch: int
) -> None:
    several = [
        (number, paragraph)
        for number, document in enumerate(corpus)
        for paragraph in document
        if len(paragraph) > 1
    ]
    assume(len(several) >= 2)
    batch = drawn(build(corpus, seed=seed), epoch)
    for (number, paragraph), (first, second), label in zip(
        several, sides(batch), batch.next_labels_B.tolist(), strict=True
    ):
        followers = [b for a, b in pairwise(paragraph) if a == first]
        assert followers, "the first sentence is one of its paragraph, and not the last"
        if label == IS_NEXT:
            assert second in followers
        else:
            elsewhere = [
                sentence
                for other, document in enumerate(corpus)
                for paragraph in document
                for sentence in paragraph
                if other != number
            ]
            assert second in elsewhere
            # Where the first sentence occurs twice, only one of its followers is the true one.
            assert [second] != followers


def test_every_sentence_of_other_documents_is_as_likely(
    build: Callable[..., PairExamples],
) -> None:
    # Document d has d + 1 paragraphs of two sentences; sentence numbers are their words.
    corpus, word = [], 5
    for size in range(1, 6):
        corpus.append([[[word + 2 * p], [word + 2 * p + 1]] for p in range(size)])
        word += 2 * size
    owner = {s[0]: d for d, document in enumerate(corpus) for p in document for s in p}
    examples = build(corpus, next_prob=0.01)
    assert len(examples) == 15
    counts: dict[int, Counter[int]] = {document: Counter() for document in range(5)}
    for epoch in range(600):
        for first, second in sides(drawn(examples, epoch)):
            counts[owner[first[0]]][second[0]] += 1
    for document, found in counts.items():
        others = [word for word, its in owner.items() if its != document]
        assert set(found) == set(others)
        assert stats.chisquare([found[word] for word in others]).pvalue > ALARM


def test_which_paragraphs_follow_is_drawn_anew_each_epoch(
    build: Callable[..., PairExamples],
) -> None:
    corpus = [[[[5 + d, 6 + p], [9 + d, 10 + p], [100 + d, 90 + p]] for p in range(5)]
              for d in range(20)]  # fmt: skip
    examples = build(corpus)
    labels = np.array([drawn(examples, epoch).next_labels_B.numpy() for epoch in range(400)])
    starts = {tuple(first) for e in range(20) for first, _ in [sides(drawn(examples, e))[0]]}
    assert len(starts) == 2, "any sentence but the last may be the first"
    for of_paragraph in labels.sum(0):
        assert stats.binomtest(int(of_paragraph), 400, 0.5).pvalue > ALARM
    others = [drawn(build(corpus, seed=seed)).next_labels_B.tolist() for seed in range(3)]
    assert len(set(map(tuple, others))) == 3


LENGTHS = st.integers(1, 40)


@settings(deadline=None, max_examples=150)
@given(first=LENGTHS, second=LENGTHS, max_length=st.integers(8, 48))
def test_long_pairs_are_cut_as_transformers_cuts_them(
    tokenizer: WordPieceTokenizer, store_of: Callable, first: int, second: int, max_length: int
) -> None:
    from transformers import BertTokenizer

    theirs = BertTokenizer(vocab=tokenizer.backend.get_vocab(), do_lower_case=True)
    words = [f"w{number}" for number in range(first + second)]
    texts = " ".join(words[:first]), " ".join(words[first:])
    expected = theirs(*texts, truncation="longest_first", max_length=max_length)
    a, b = (tokenizer.encode([text])[0] for text in texts)
    # One pair, which follows: nine in ten of one are one.
    examples = PairExamples(store_of([[[a, b]], [[[300]]]]), max_length, 0.9, tokenizer, seed=0)
    batch = examples.batch(0, np.arange(1))
    ((cut_a, cut_b),) = sides(batch)
    assert batch.input_ids_BL.shape[1] == len(expected["input_ids"]) <= max_length
    assert examples.lengths(0).tolist() == [batch.input_ids_BL.shape[1]]
    assert cut_a == a[: len(cut_a)]
    assert cut_b == b[: len(cut_b)]
    if batch.token_type_ids_BL.tolist() != [expected["token_type_ids"]]:
        # Both are cut and the room is odd: who gets the last place is a matter of taste.
        room = max_length - 3
        assert room % 2 == 1
        assert min(first, second) > room // 2
        assert abs(len(cut_a) - len(cut_b)) == 1
    else:
        assert batch.input_ids_BL.tolist() == [expected["input_ids"]]


@settings(deadline=None, max_examples=60)
@given(corpus=documents(300), max_length=st.integers(8, 40), seed=SEEDS)
def test_no_pair_is_too_long_and_each_is_the_same_in_any_batch(
    build: Callable[..., PairExamples], corpus: list, max_length: int, seed: int
) -> None:
    several = sum(len(paragraph) > 1 for document in corpus for paragraph in document)
    assume(several >= 2)
    examples = build(corpus, max_length=max_length, seed=seed)
    together = drawn(examples)
    assert together.input_ids_BL.shape[1] == examples.lengths(0).max() <= max_length
    assert together.tokens == examples.lengths(0).sum()
    for example, pair in enumerate(sides(together)):
        alone = examples.batch(0, np.array([example]))
        assert sides(alone) == [pair]
        assert alone.next_labels_B[0] == together.next_labels_B[example]
        assert alone.attention_mask_BL is None
    if together.attention_mask_BL is not None:
        assert together.attention_mask_BL.sum(1).tolist() == examples.lengths(0).tolist()


def test_batches_do_not_depend_on_the_number_of_workers(
    build: Callable[..., PairExamples],
) -> None:
    generator = np.random.default_rng(0)
    corpus = [
        [[generator.integers(5, 300, size).tolist() for size in (3, 9, 5)] for _ in range(4)]
        for _ in range(10)
    ]

    def batches(workers: int) -> list[tuple[list, list, list]]:
        plan = BatchPlan(build(corpus), batch_size=7, batches_per_step=2, seed=5)
        loader = load_steps(plan, 0, workers, torch.device("cpu"))
        steps = [step for step, _ in zip(loader, range(8), strict=False)]
        return [
            (b.example_ids.tolist(), b.input_ids_BL.tolist(), b.next_labels_B.tolist())
            for step in steps
            for b in step
        ]

    none = batches(0)
    # Three steps of two batches are an epoch of 40 pairs, so eight are of three epochs.
    assert len(none) == 16
    assert batches(1) == none
    assert batches(2) == none


def test_one_document_is_the_users_error(build: Callable[..., PairExamples]) -> None:
    with pytest.raises(UserError, match="task=nsp draws its negatives from other doc") as caught:
        build([[[[5], [6]], [[7], [8]]]])
    assert "\n" not in str(caught.value)


def test_paragraphs_of_one_sentence_are_the_users_error(build: Callable[..., PairExamples]) -> None:
    with pytest.raises(UserError, match=r"paragraphs of two or more sentences.* 0"):
        build([[[[5]]], [[[6]]]])


def test_a_corpus_of_one_sentence_is_the_users_error(build: Callable[..., PairExamples]) -> None:
    examples = build([[[[5], [5]], [[5], [5]]], [[[5], [5]]]])
    with pytest.raises(UserError, match="repeats one sentence too often") as caught:
        examples.batch(0, np.arange(1))
    assert "\n" not in str(caught.value)
