"""Sentence pairs: as many of each kind as asked for, true to their labels, cut as others cut."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numbered import word_tokenizer
from scipy import stats

from bertexp.objectives.batch import Batch
from bertexp.objectives.pair_examples import PairExamples
from bertexp.validation import UserError

from .conftest import KINDS, NUMBERED, SEGMENTS, WORDY

PAD, UNK, CLS, SEP, MASK = range(5)
IS_NEXT, NOT_NEXT = 0, 1
ALARM = 1e-9
SEEDS = st.integers(0, 2**32 - 1)
EPOCHS = st.integers(0, 50)
MIXTURES = st.lists(st.sampled_from(KINDS), min_size=1, max_size=4, unique=True).flatmap(
    lambda kinds: st.lists(st.integers(1, 9), min_size=len(kinds), max_size=len(kinds)).map(
        lambda parts: {k: n / sum(parts) for k, n in zip(kinds, parts, strict=True)}
    )
)
ANY = settings(deadline=None, max_examples=50)


def made(
    build: Callable[..., PairExamples], corpus: list, epoch: int, **changed: Any
) -> PairExamples:
    """Return the pairs of a corpus and pass over those that have none in ``epoch``."""
    try:
        examples = build(corpus, **changed)
        examples.lengths(epoch)
        return examples
    except UserError as error:
        assert "\n" not in str(error)
        assert any(text in str(error) for text in ("too often", " finds "))
        assume(False)
        raise


def all_of(examples: PairExamples, epoch: int = 0) -> Batch:
    return examples.batch(epoch, np.arange(len(examples)))


def sides(batch: Batch) -> list[tuple[list[int], list[int]]]:
    """Return the two segments of each pair, read from the ids as BERT lays them out."""
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


class Places:
    """Where each token of a corpus without repetitions stands."""

    def __init__(self, corpus: list) -> None:
        self.document: dict[int, int] = {}
        self.paragraph: dict[int, int] = {}
        self.sentence: dict[int, int] = {}
        self.starts: set[int] = set()
        paragraphs, sentences = itertools.count(), itertools.count()
        for number, document in enumerate(corpus):
            for paragraph in document:
                place = next(paragraphs)
                for sentence in paragraph:
                    self.starts.add(sentence[0])
                    self.sentence |= dict.fromkeys(sentence, next(sentences))
                    self.document |= dict.fromkeys(sentence, number)
                    self.paragraph |= dict.fromkeys(sentence, place)

    def check_segment(self, tokens: list[int], segments: str) -> None:
        """Whole sentences of one document, one after the other; ids count up."""
        assert tokens == list(range(tokens[0], tokens[0] + len(tokens)))
        assert len({self.document[token] for token in tokens}) == 1
        assert tokens[0] in self.starts
        assert tokens[-1] + 1 in self.starts or tokens[-1] + 1 not in self.document
        if segments == "sentence":
            assert len({self.sentence[token] for token in tokens}) == 1
        if segments == "paragraph":
            assert len({self.paragraph[token] for token in tokens}) == 1


@pytest.mark.parametrize("segments", SEGMENTS)
@ANY
@given(corpus=WORDY, seed=SEEDS, epoch=EPOCHS, next_prob=st.floats(0.01, 0.99), negatives=MIXTURES)
def test_an_epoch_has_exactly_the_shares_that_were_asked_for(
    build: Callable[..., PairExamples], segments: str, corpus: list, seed: int, epoch: int,
    next_prob: float, negatives: dict[str, float],
) -> None:  # fmt: skip
    changed = {"segments": segments, "next_prob": next_prob, "negatives": negatives}
    examples = made(build, corpus, epoch, seed=seed, **changed)
    labels = all_of(examples, epoch).targets["nsp"].labels_N
    count = len(examples)
    assert abs((labels == IS_NEXT).sum().item() - count * next_prob) <= 0.5
    assert set(labels.tolist()) <= {IS_NEXT, NOT_NEXT}
    for kind, share in examples.shares(epoch).items():
        expected = next_prob if kind == "next" else (1 - next_prob) * negatives[kind]
        assert abs(share - expected) * count <= 1 + 1e-9


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("segments", SEGMENTS)
@ANY
@given(corpus=NUMBERED, seed=SEEDS, epoch=EPOCHS)
def test_pairs_are_what_their_kind_says(
    build: Callable[..., PairExamples], segments: str, kind: str, corpus: list, seed: int,
    epoch: int,
) -> None:  # fmt: skip
    # Documents of one chunk have no other place.
    cut = segments == "fill" and kind == "same_document"
    changed = {"segments": segments, "negatives": kind, "max_length": 12 if cut else 1000}
    changed["short_prob"] = 0.0
    batch = all_of(made(build, corpus, epoch, seed=seed, **changed), epoch)
    at = Places(corpus)
    for (first, second), label in zip(
        sides(batch), batch.targets["nsp"].labels_N.tolist(), strict=True
    ):
        if not cut:
            at.check_segment(first, segments)
            at.check_segment(second, segments)
        same = at.document[first[0]] == at.document[second[0]]
        follows = second[0] == first[-1] + 1 and same
        if segments == "sentence":
            follows &= at.paragraph[first[0]] == at.paragraph[second[0]]
        if label == IS_NEXT:
            assert follows or (cut and same and first[-1] < second[0])
        elif kind == "swap":
            assert first[0] == second[-1] + 1
            assert same
        else:
            assert not follows
            assert kind != "other_document" or not same
            if kind == "same_document":
                assert same
                assert not set(first) & set(second)


@pytest.mark.parametrize(
    ("segments", "kind"),
    # Filled segments take all of a short document: see below.
    [pair for pair in itertools.product(SEGMENTS, KINDS) if pair != ("fill", "same_document")],
)
@ANY
@given(corpus=WORDY, seed=SEEDS, epoch=EPOCHS)
def test_no_negative_reads_like_the_true_next(
    build: Callable[..., PairExamples], segments: str, kind: str, corpus: list, seed: int,
    epoch: int,
) -> None:  # fmt: skip
    changed = {"segments": segments, "negatives": kind, "max_length": 1000}
    examples = made(build, corpus, epoch, seed=seed, **changed)
    pairs = examples.drawer.pairs(epoch)
    everything = [
        sentence for document in corpus for paragraph in document for sentence in paragraph
    ]
    ends = np.cumsum([len(sentence) for sentence in everything])
    for (first, second), pair in zip(
        sides(all_of(examples, epoch)), range(len(examples)), strict=True
    ):
        if pairs.kinds[pair] == 0:
            continue
        if kind == "swap":
            assert first != second
        else:
            end = pairs.first_starts[pair] + len(first)
            true_next = everything[int(np.searchsorted(ends, end)) + 1]
            assert second[: len(true_next)] != true_next


@ANY
@given(words=st.integers(1, 3), seed=SEEDS, epoch=EPOCHS)
def test_filled_negatives_of_the_same_document_begin_with_another_sentence(
    build: Callable[..., PairExamples], words: int, seed: int, epoch: int
) -> None:
    generator = np.random.default_rng(seed)
    # Sentences of one word and a stop: the words say which of them read alike.
    corpus = [
        [[[6 + w, 5] for w in generator.integers(0, words + 1, size)] for size in (5, 9)]
        for _ in range(6)
    ]
    changed = {"segments": "fill", "negatives": "same_document", "short_prob": 0.0}
    # Room for four sentences: nothing is cut.
    examples = made(build, corpus, epoch, seed=seed, max_length=11, **changed)
    pairs = examples.drawer.pairs(epoch)
    everything = [s for document in corpus for paragraph in document for s in paragraph]
    for pair, (first, second) in enumerate(sides(all_of(examples, epoch))):
        start = pairs.first_starts[pair] // 2
        true_next = everything[start + len(first) // 2]
        assert (second[:2] == true_next) or pairs.kinds[pair] == 1
        assert (second[:2] != true_next) or pairs.kinds[pair] == 0
        if pairs.kinds[pair]:
            own = set(range(start, start + len(first) // 2))
            other = pairs.second_starts[pair] // 2
            assert not own & set(range(other, other + len(second) // 2))
            assert start // 14 == other // 14, "documents have 14 sentences"


@pytest.mark.parametrize("segments", SEGMENTS)
@ANY
@given(corpus=NUMBERED, seed=SEEDS, max_length=st.integers(8, 40), negatives=MIXTURES)
def test_no_pair_is_too_long_and_each_is_the_same_in_any_batch(
    build: Callable[..., PairExamples], segments: str, corpus: list, seed: int, max_length: int,
    negatives: dict[str, float],
) -> None:  # fmt: skip
    changed = {"segments": segments, "negatives": negatives, "max_length": max_length}
    examples = made(build, corpus, 0, seed=seed, **changed)
    together = all_of(examples)
    lengths = examples.lengths(0)
    assert together.input_ids_BL.shape[1] == lengths.max() <= max_length
    assert together.tokens == lengths.sum()
    for example, pair in enumerate(sides(together)):
        assert min(map(len, pair)) > 0
        alone = examples.batch(0, np.array([example]))
        assert sides(alone) == [pair]
        assert alone.targets["nsp"].labels_N[0] == together.targets["nsp"].labels_N[example]
        assert alone.attention_mask_BL is None
    if together.attention_mask_BL is not None:
        assert together.attention_mask_BL.sum(1).tolist() == lengths.tolist()


def test_every_place_is_as_likely(build: Callable[..., PairExamples]) -> None:
    # Document d has d + 1 paragraphs of two sentences; sentence numbers are their words.
    corpus, word = [], 5
    for size in range(1, 6):
        corpus.append([[[word + 2 * p], [word + 2 * p + 1]] for p in range(size)])
        word += 2 * size
    owner = {s[0]: d for d, document in enumerate(corpus) for p in document for s in p}
    places: dict[str, Callable[[int, int], bool]] = {
        "other_document": lambda first, word: owner[word] != owner[first],
        "same_document": lambda first, word: owner[word] == owner[first] and word != first,
        "any_sentence": lambda first, word: True,
        "any_sentence_or_next": lambda first, word: True,
    }
    for kind, allowed in places.items():
        examples = build(corpus, next_prob=0.01, negatives=kind)
        # A document of two sentences has no third.
        assert len(examples) == (14 if kind == "same_document" else 15)
        counts: dict[int, Counter[int]] = {first: Counter() for first in owner}
        for epoch in range(600):
            for first, second in sides(all_of(examples, epoch)):
                counts[first[0]][second[0]] += 1
        for first, found in counts.items():
            expected = [word for word in owner if allowed(first, word)]
            if kind != "any_sentence_or_next":
                expected = [word for word in expected if word != first + 1]
            if found:
                assert set(found) <= set(expected)
                observed = [found[word] for word in expected]
                assert stats.chisquare(observed).pvalue > ALARM, (kind, first)


def test_which_pairs_follow_is_drawn_anew_each_epoch_unless_told_otherwise(
    build: Callable[..., PairExamples],
) -> None:
    corpus = [[[[5 + d, 6 + p], [9 + d, 10 + p], [100 + d, 90 + p]] for p in range(5)]
              for d in range(20)]  # fmt: skip
    examples = build(corpus)
    labels = np.array(
        [all_of(examples, epoch).targets["nsp"].labels_N.numpy() for epoch in range(400)]
    )
    starts = {tuple(first) for e in range(20) for first, _ in [sides(all_of(examples, e))[0]]}
    assert len(starts) == 2, "any sentence but the last may be the first"
    for of_paragraph in labels.sum(0):
        assert stats.binomtest(int(of_paragraph), 400, 0.5).pvalue > ALARM
    others = [
        all_of(build(corpus, seed=seed)).targets["nsp"].labels_N.tolist() for seed in range(3)
    ]
    assert len(set(map(tuple, others))) == 3
    static = build(corpus, dynamic=False)
    assert sides(all_of(static, 7)) == sides(all_of(static, 0)) == sides(all_of(examples, 0))
    assert sides(all_of(examples, 7)) != sides(all_of(examples, 0))


LENGTHS = st.integers(1, 40)


@settings(deadline=None, max_examples=150)
@given(first=LENGTHS, second=LENGTHS, max_length=st.integers(8, 48))
def test_long_pairs_are_cut_as_transformers_cuts_them(
    build: Callable[..., PairExamples], first: int, second: int, max_length: int
) -> None:
    from transformers import BertTokenizer

    tokenizer = word_tokenizer()
    theirs = BertTokenizer(vocab=tokenizer.backend.get_vocab(), do_lower_case=True)
    words = [f"w{number}" for number in range(first + second)]
    texts = " ".join(words[:first]), " ".join(words[first:])
    expected = theirs(*texts, truncation="longest_first", max_length=max_length)
    a, b = (tokenizer.encode([text])[0] for text in texts)
    # Two pairs, of which nine in ten follow: both.
    examples = build([[[a, b]], [[[300], [301]]]], max_length=max_length, next_prob=0.9)
    batch = examples.batch(0, np.arange(1))
    ((cut_a, cut_b),) = sides(batch)
    assert batch.input_ids_BL.shape[1] == len(expected["input_ids"]) <= max_length
    assert examples.lengths(0)[0] == batch.input_ids_BL.shape[1]
    assert cut_a == a[: len(cut_a)]
    assert cut_b == b[: len(cut_b)]
    if batch.token_type_ids_BL.tolist() != [expected["token_type_ids"]]:
        # Both are cut and the capacity is odd: who gets the last place is a matter of taste.
        capacity = max_length - 3
        assert capacity % 2 == 1
        assert min(first, second) > capacity // 2
        assert abs(len(cut_a) - len(cut_b)) == 1
    else:
        assert batch.input_ids_BL.tolist() == [expected["input_ids"]]


MISTAKES = {
    "one document": (
        [[[[5], [6]], [[7], [8]]]], {}, r"only one: add documents.*same_document, any_sentence or",
    ),
    "paragraphs of one sentence": (
        [[[[5]], [[9], [9], [9]]], [[[6]]], [[[8], [8]]]],
        {"segments": "fill", "negatives": "same_document"},
        r"segments=fill with task\.negatives=same_document finds 0 pairs in 4 paragraphs of a "
        r"split \(sentences in each: 2 with 1, 1 with 2, 1 with 3\), which are 3 documents; other ",
    ),
    "segments that would do": (
        [[[[5]], [[7]]], [[[6]], [[8]]]], {}, r"segments=sentence .* finds 0 pairs in 4 paragraphs "
        r"of a split \(sentences in each: 4 with 1\), .* task\.segments=fill finds 2, "
        r"task\.segments=paragraph finds 2",
    ),
    "documents of one paragraph": (
        [[[[5], [6]]], [[[6], [7]]]], {"segments": "paragraph"}, r"segments=paragraph .* finds 0",
    ),
    "documents of one chunk": (
        [[[[5], [6], [7]]]] * 3, {"segments": "fill", "negatives": "same_document"}, "finds 0",
    ),
    "one sentence": (
        [[[[5], [5]], [[5], [5]]], [[[5], [5]]]], {}, "repeats one sentence too often",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_corpus_without_such_pairs_is_the_users_error(
    build: Callable[..., PairExamples], mistake: str
) -> None:
    corpus, changed, expected = MISTAKES[mistake]
    with pytest.raises(UserError, match=expected) as caught:
        all_of(build(corpus, **changed))
    assert "\n" not in str(caught.value)
