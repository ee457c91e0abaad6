"""Bits per byte: the same text for every tokenizer, scored as a loop with transformers does."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from bertexp.data.corpora import Document
from bertexp.data.corpora.corpus import CorpusStore
from bertexp.data.tokens.tokenizer import Roles, Tokenizer
from bertexp.evaluation.bits_per_byte import (
    MOST_BYTES,
    BitsPerByte,
    choose_texts,
    known_words,
    piece_bits,
)
from bertexp.evaluation.evaluator import Source
from bertexp.evaluation.scoring import encode, ends_of_words, place
from bertexp.evaluation.spelling import spelling_bits
from bertexp.experiment.prepare import Data
from bertexp.objectives.learner import Learner

CPU = torch.device("cpu")
ROLES = Roles(pad="<pad>", unk=None, cls="<s>", sep="</s>", mask="<mask>")


def byte_level(texts: list[str], size: int = 300, prefix: bool = False) -> Tokenizer:
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = [*ROLES.tokens.values()]
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    return Tokenizer(backend, ROLES)


def word_level(words: list[str]) -> Tokenizer:
    """Whole words in lower case, and nothing else."""
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    backend = Backend(models.WordLevel({w: i for i, w in enumerate(known)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return Tokenizer(backend)


def source_of(data: Data) -> Source:
    return next(each for each in data.evaluators if isinstance(each, BitsPerByte)).source


def measured(evaluator: BitsPerByte, model: Any, data: Data) -> dict[str, float]:
    learner = Learner(model, data.task.objectives)
    return dict(evaluator.measure(learner, CPU))


def charged(found: dict[str, float]) -> float:
    return found["eval/bits_per_byte@spelling"] + found["eval/bits_per_byte@pieces"]


def looped(model: Any, tokenizer: Tokenizer, text: str, room: int) -> float:
    """Return the nats of a text, with the whole model run on one masked sequence after another."""
    encoding = tokenizer.backend.encode(text, add_special_tokens=False)
    ids, total = encoding.ids, 0.0
    spans = [match.span() for match in re.finditer(r"\s*([^\W_]+|[^\sa-zA-Z0-9]+)", text)]
    at = [
        {k for k, (a, z) in enumerate(spans) if a < end and begin < z}
        for begin, end in encoding.offsets
    ]
    for number, index in enumerate(ids):
        first = min(max(number - room // 2, 0), max(len(ids) - room, 0))
        last_word = max(at[number])
        seen = [
            tokenizer.mask_id if other == number or (other > number and min(at[other]) <= last_word)
            else ids[other]
            for other in range(first, min(first + room, len(ids)))
        ]  # fmt: skip
        inputs = torch.tensor([[tokenizer.opening_id, *seen, tokenizer.closing_id]])
        with torch.no_grad():
            logits = model(inputs).logits[0, 1 + number - first]
        total -= logits.log_softmax(-1)[index].item()
    return total


@pytest.mark.parametrize("room", [126, 9])
def test_it_is_that_of_a_loop_with_transformers(
    room: int, cut_words: Callable[..., Data], untrained: Callable[..., Any]
) -> None:
    data = cut_words(f"task.max_length={room + 2}")
    evaluator = BitsPerByte(source_of(data))
    tokenizer, texts = data.tokenizer, evaluator.texts
    sizes = [len(ids) for ids in tokenizer.encode(texts)]
    assert max(sizes) > 9
    places = evaluator.places
    assert (places.end_N - places.column_N > 1).any(), "words of several pieces"
    model = untrained(data).eval()
    nats = sum(looped(model, tokenizer, text, room) for text in texts)
    model.train()  # the dropout has to be switched off
    found = measured(evaluator, model, data)
    size = sum(len(text.encode()) for text in texts)
    own = found["eval/bits_per_byte"] - charged(found)
    assert own == pytest.approx(nats / math.log(2) / size, rel=1e-5)
    count = sum(len(re.findall(r"[^\W_]+|[^\sa-zA-Z0-9]+", text)) for text in texts)
    assert found["eval/word_perplexity"] == pytest.approx(math.exp(nats / count), rel=1e-4)


def test_with_equal_chances_a_token_takes_the_logarithm_of_the_vocabulary(
    cut_words: Callable[..., Data], untrained: Callable[..., Any]
) -> None:
    data = cut_words()
    source = source_of(data)
    model = untrained(data)
    torch.nn.init.zeros_(model.cls.predictions.decoder.weight)
    torch.nn.init.zeros_(model.cls.predictions.bias)
    evaluator = BitsPerByte(source)
    found = measured(evaluator, model, data)
    tokens = sum(len(ids) for ids in data.tokenizer.encode(evaluator.texts))
    size = sum(len(text.encode()) for text in evaluator.texts)
    bits = tokens * math.log2(data.tokenizer.vocab_size) / size
    assert found["eval/bits_per_byte"] == pytest.approx(bits + charged(found))
    assert evaluator.reference.yardsticks["eval/bits_per_byte"] < found["eval/bits_per_byte"]


def test_texts_are_the_same_for_every_run_task_and_tokenizer(
    cut_words: Callable[..., Data], prepared: Callable[..., Data]
) -> None:
    data = cut_words()
    evaluator = BitsPerByte(source_of(data))
    bpe = byte_level(choose_texts(data.corpus, 10**6))
    others = [
        BitsPerByte(replace(source_of(data), tokenizer=bpe)),
        BitsPerByte(source_of(prepared("task=mlm_nsp", "seed=3", "task.max_length=32"))),
    ]
    for other in others:
        assert other.texts == evaluator.texts
        assert other.reference.fingerprints == evaluator.reference.fingerprints
        # Each token of them is scored, and once.
        tokens = [i for ids in other.source.tokenizer.encode(other.texts) for i in ids]
        assert other.places.ids_N.tolist() == tokens
    assert choose_texts(data.corpus, 5)[:2] == evaluator.texts
    assert max(len(text.encode()) for text in choose_texts(data.corpus, 10**6)) <= MOST_BYTES
    nsp = BitsPerByte(source_of(prepared("task=nsp")))
    assert (nsp.texts, nsp.reference.fingerprints, nsp.reference.yardsticks) == ([], {}, {})


def test_words_with_an_unknown_token_do_not_count_in_the_perplexity_of_words() -> None:
    words = word_level(["the", "cat"])
    known_N, count = known_words(words, encode(words, ["the dog, the cat", "cat"]))
    assert known_N.tolist() == [True, False, False, True, True, True]
    assert count == 4
    assert known_words(words, encode(words, [""]))[1] == 0


def test_how_many_pieces_words_have_is_charged() -> None:
    bytes_ = byte_level([])
    # A space is a byte of the word behind it: words of 2, 2 and 3 pieces, and one of 1.
    assert piece_bits(encode(bytes_, ["ab c fg."])) == pytest.approx(
        -2 * math.log2(2 / 4) - 2 * math.log2(1 / 4)
    )
    assert piece_bits(encode(word_level(["ab"]), ["ab ab ab"])) == 0


class Corpus(CorpusStore):
    """Training documents of one paragraph each."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts
        self.fingerprint = " ".join(texts)

    def documents(self, split: str, files: object = None) -> Iterator[Document]:
        return (Document("", [text]) for text in self.texts)


def test_what_tokens_do_not_tell_is_charged(empty_cache: Any) -> None:
    corpus = Corpus("the cat", "The cat", "the cat")
    words = word_level(["the", "cat"])
    same, capital, unknown, cased = spelling_bits(
        corpus, words, ["the cat", "The cat", "The dog", "CAT"]
    )
    # One text in four is as its tokens read.
    assert same == pytest.approx(math.log2(4))
    # "The" is one of three with nothing before it, " cat" all of three after "the" (Witten, Bell).
    upper = (1 + 2 * (1 + 2 * 2.0**-32) / 5) / 5
    cat = (3 + (3 + 2.0**-40) / 4) / 4
    note = math.log2(4 / 3)
    assert capital == pytest.approx(note - math.log2(upper * cat))
    # A space, three letters and the end, a byte each.
    assert unknown == pytest.approx(note - math.log2(upper) + 40)
    # Never seen: as it is written, and that it is one of the other four times.
    assert cased == pytest.approx(note + 32 + math.log2(4))
    for prefix in (False, True):
        bytes_ = byte_level(["the cat"], prefix=prefix)
        assert spelling_bits(corpus, bytes_, ["The dög, 猫🙂"]).tolist() == [0]


@pytest.mark.parametrize(
    ("text", "pieces", "ends"),
    [
        ("a cats paw", ["a", " cat", "s", " p", "a", "w"], [1, 3, 3, 6, 6, 6]),
        ("f(x): y", ["f", "(", "x", ")", ":", " y"], [1, 2, 3, 5, 5, 6]),
        # The space is of the word behind it, whoever has it.
        ("a cat", ["a", " ", "cat"], [1, 3, 3]),
        ("a cat ", ["a ", "cat", " "], [1, 2, 3]),
        # What is in two words is masked with what follows in the second.
        ("cat's", ["cat", "'s"], [1, 2]),
        ("don't_go", ["don", "'t", "_g", "o"], [1, 2, 4, 4]),
        # Without spaces, and with marks.
        ("猫が鳴く。犬", ["猫", "が", "鳴く", "。", "犬"], [3, 3, 3, 4, 5]),
        ("हिन्दी में", ["हि", "न्दी", " में"], [2, 2, 3]),
    ],
)
def test_a_word_is_the_same_whatever_it_is_cut_into(
    text: str, pieces: list[str], ends: list[int]
) -> None:
    assert "".join(pieces) == text
    after = np.cumsum([len(piece) for piece in pieces])
    offsets = [(int(end) - len(piece), int(end)) for end, piece in zip(after, pieces, strict=True)]
    assert ends_of_words(text, offsets).tolist() == ends


@given(st.text(min_size=1).filter(str.strip), st.integers(5, 40))
def test_each_byte_is_scored_once_with_what_follows_of_its_word_masked(
    text: str, max_length: int
) -> None:
    tokenizer = byte_level([])
    places = place(tokenizer, encode(tokenizer, [text]), max_length)
    spelt = tokenizer.backend.decode(places.ids_N.tolist())
    assert spelt == text
    assert (places.column_N < places.end_N).all()
    assert all(len(row) <= max_length for row in places.rows)
    lengths = np.array([len(row) for row in places.rows])[places.row_N]
    assert ((places.column_N >= 1) & (places.end_N < lengths)).all()
