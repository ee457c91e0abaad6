"""Where words begin: as the library's own pre-tokenizers part the text, in several scripts."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Encoding, Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.data.tokens.training import TRAINERS
from bertexp.data.tokens.wordpiece import SPECIAL_TOKENS
from bertexp.masking.words import batch_words

TEXTS = {
    "english": 'A naïve reader doesn\'t mind "3 cafés" (and 1,024 words) in B2B, covid19, 2026!',
    "german": "Größere Äpfel fielen über die Straße – „weil“ Jürgen sie 12mal schüttelte.",
    "korean": "한국어 문장을 학습합니다. 띄어쓰기가있거나없거나 2026년에도 합니다, 그렇죠?",
    "chinese": "我们学习语言模型。它们预测被遮盖的词，2026年很流行！BERT模型也是。",
    "japanese": "私は日本語を勉強します。ガギグとカタカナ、2026年！",
    "emoji": "Well 😀😀 done👩‍👩‍👧 and fine… ok👍🏽!",
    "hindi": "हिन्दी भाषा की किताब, 12 पन्ने.",
}
# As in Llama 3.
SPLIT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
Make = Callable[[list[str], int], Tokenizer]


def byte_level(pre_tokenizer: pre_tokenizers.PreTokenizer) -> Make:
    def make(texts: list[str], size: int) -> Tokenizer:
        made = Backend(models.BPE())
        made.pre_tokenizer, made.decoder = pre_tokenizer, decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        made.train_from_iterator(
            texts, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, **COMMON)
        )
        return Tokenizer(made)

    return make


def sentencepiece(texts: list[str], size: int) -> Tokenizer:
    made = Backend(models.Unigram())
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    made.train_from_iterator(
        texts, trainers.UnigramTrainer(vocab_size=size, unk_token="[UNK]", **COMMON)
    )
    return Tokenizer(made)


COMMON = {"special_tokens": [*SPECIAL_TOKENS], "show_progress": False}
LLAMA = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
)
MADE: dict[str, Make] = {
    "gpt2": byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "llama": byte_level(LLAMA),
    "metaspace": sentencepiece,
    **{
        kind: lambda texts, size, train=train: Tokenizer(train(texts, size, False))
        for kind, (train, _) in TRAINERS.items()
    },
}


@pytest.fixture(scope="module", params=itertools.product(MADE, (330, 700)), ids=str)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """A tokenizer of each kind, that cuts words into bytes or letters, or into longer pieces."""
    kind, size = request.param
    return MADE[kind]([*TEXTS.values()] * 5, size)


def found(tokenizer: Tokenizer, encoding: Encoding) -> np.ndarray:
    ids = np.array(encoding.ids, int)
    return tokenizer.begins_words(ids, np.arange(len(ids)) == 0)


def of_pre_tokenizer(encoding: Encoding) -> np.ndarray:
    words = np.array(encoding.word_ids, int)
    return np.append(True, words[1:] != words[:-1])[: len(words)]


def expected(encoding: Encoding, text: str) -> np.ndarray:
    """Return where the pre-tokenizer parts words, but for what is decided otherwise.

    Signs and ideographs are words by themselves, numbers are not parted, letters not at accents,
    and a space is of the word behind it.
    """
    begins = of_pre_tokenizer(encoding)
    for place, ((first, last), (start, _)) in enumerate(itertools.pairwise(encoding.offsets), 1):
        if text[start] == " ":
            continue
        # What joins characters is of the one before.
        before = text[:start].rstrip("\u200d\ufe0f")[-1:] or text[start]
        kinds = unicodedata.category(before)[0] + unicodedata.category(text[start])[0]
        is_within = last > start or text[start] == "\u200d" or not text[first:last].strip()
        if is_within or kinds[1] == "M" or kinds in ("ML", "NN"):
            begins[place] = False
        elif any("CJK UNIFIED" in unicodedata.name(each, "") for each in (before, text[start])):
            begins[place] = True
        elif before != " ":
            begins[place] |= (kinds[0] in "LNM") != (kinds[1] in "LNM")
    return begins


@pytest.mark.parametrize("language", TEXTS)
def test_words_begin_where_the_pre_tokenizer_parts_them(
    tokenizer: Tokenizer, language: str
) -> None:
    encoding = tokenizer.backend.encode(TEXTS[language], add_special_tokens=False)
    got, wanted = found(tokenizer, encoding), expected(encoding, TEXTS[language])
    pieces = [tokenizer.shown[index] for index in encoding.ids]
    assert [*zip(pieces, got, strict=True)] == [*zip(pieces, wanted, strict=True)]


@pytest.mark.parametrize("kind", MADE)
def test_little_of_english_differs_from_the_pre_tokenizer(kind: str, real_text: Path) -> None:
    """Metaspace leaves signs in words, and Llama parts spaces from numbers: here they do not."""
    lines = real_text.read_text(encoding="utf-8").splitlines()[:400]
    made = MADE[kind](lines, 400)
    differ = []
    for encoding in made.backend.encode_batch(lines, add_special_tokens=False):
        differ += [*(found(made, encoding) != of_pre_tokenizer(encoding))]
    assert len(differ) > 10_000
    assert np.mean(differ) < {"wordpiece": 1e-9, "llama": 0.03, "metaspace": 0.1}.get(kind, 0.005)


def test_words_are_the_same_wherever_they_are_cut_out(tokenizer: Tokenizer) -> None:
    """What is counted in a corpus is looked up in blocks of it."""
    text = " ".join(TEXTS.values())
    encoding = tokenizer.backend.encode(text, add_special_tokens=False)
    whole, ids = found(tokenizer, encoding), np.array(encoding.ids)
    for start in np.flatnonzero(whole):
        opens = np.arange(len(ids) - start) == 0
        assert (tokenizer.begins_words(ids[start:], opens) == whole[start:]).all()


def test_a_special_token_ends_a_word() -> None:
    made = MADE["gpt2"]([*TEXTS.values()] * 5, 700)
    (ids,) = made.encode(["re[MASK]ad er"])
    words = batch_words(np.array([ids]), np.array([ids]) != made.mask_id, made)
    parts = [made.join(ids[a:b]) for a, b in zip(words.starts_W, words.ends_W, strict=True)]
    assert parts == ["re", "ad", " er"]
