"""Tokenizers trained on a corpus: every kind, in several languages, through every export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, pipeline

from bertexp.config import Config
from bertexp.data.tokens.saved import open_tokenizer
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.data.tokens.training import TRAINERS
from bertexp.experiment.prepare import prepare_tokenizer
from bertexp.families.checkpoint import export_model
from bertexp.validation import UserError

TEXTS = {
    "english": "The naïve reader doesn't mind: 3 cafés (and 1,024 words) in 2026!",
    "german": "Größere Äpfel fielen über die Straße, weil Jürgen sie schüttelte.",
    "korean": "한국어 문장을 학습합니다. 띄어쓰기가있거나없거나 합니다.",
    "chinese": "我们学习语言模型。它们预测被遮盖的词，2026年很流行！",
    "emoji": "Well 😀 done 👩‍👩‍👧 and ﬁne…",
}
KINDS = sorted(TRAINERS)
Train = Callable[..., Tokenizer]


@pytest.fixture(scope="module")
def train() -> Train:
    """Return a function that trains a tokenizer of a kind on all the texts."""
    made: dict[object, Tokenizer] = {}

    def one(kind: str, size: int = 500, lowercase: bool = False) -> Tokenizer:
        key = (kind, size, lowercase)
        if key not in made:
            texts = [text for text in TEXTS.values() for _ in range(5)]
            made[key] = Tokenizer(TRAINERS[kind][0](texts, size, lowercase))
        return made[key]

    return one


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize("kind", KINDS)
def test_text_comes_back_from_its_tokens(train: Train, kind: str, language: str) -> None:
    tokenizer, text = train(kind), TEXTS[language]
    (ids,) = tokenizer.encode([text])
    assert tokenizer.unk_id not in ids
    back, written = tokenizer.join(ids), tokenizer.backend.normalizer.normalize_str(text)
    # BERT forgets where spaces were beside signs.
    assert back.replace(" ", "") == written.replace(" ", "")
    if kind != "wordpiece":
        assert back.strip() == written


@pytest.mark.parametrize("kind", KINDS)
def test_case_is_folded_and_accents_are_stripped_as_configured(train: Train, kind: str) -> None:
    text = "Ärger É Über"
    for folded, expected in ((True, "ärger é über"), (False, text)):
        normalizer = train(kind, lowercase=folded).backend.normalizer
        # Hangul among the texts: accents stay.
        assert normalizer.normalize_str(text) == expected
    normalizer = TRAINERS[kind][0]([text], 300, True).normalizer
    assert normalizer.normalize_str(text) == "arger e uber"
    normalizer = TRAINERS[kind][0]([text], 300, False, True).normalizer
    assert normalizer.normalize_str(text) == "Arger E Uber"


def test_bytes_are_known_and_rare_characters_of_a_unigram_are_not() -> None:
    texts = [*["plain words of one text"] * 400, "of one ж text"]
    for kind, known in (("bpe", True), ("unigram", False)):
        tokenizer = Tokenizer(TRAINERS[kind][0](texts, 280, False))
        (ids,) = tokenizer.encode(["one 漢 text"])
        assert (tokenizer.unk_id not in ids) == known
    # 400 characters in a vocabulary of 200: the commonest are in it.
    chinese = ["".join(chr(0x4E00 + n) for n in range(400) if n % (1 + turn)) for turn in range(60)]
    tokenizer = Tokenizer(TRAINERS["unigram"][0](chinese, 200, False))
    assert 100 < tokenizer.vocab_size <= 200
    (ids,) = tokenizer.encode([chinese[3]])
    assert 0 < ids.count(tokenizer.unk_id or 0) < len(ids)


@pytest.mark.parametrize("kind", KINDS)
def test_an_exported_tokenizer_is_the_same_in_transformers(
    train: Train, kind: str, tmp_path: Path
) -> None:
    tokenizer = train(kind)
    sizes = {
        "num_hidden_layers": 1,
        "hidden_size": 16,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    model = BertForMaskedLM(BertConfig(vocab_size=tokenizer.vocab_size, **sizes))
    export_model(model, tokenizer, 64, tmp_path / "model")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "model")
    texts = [*TEXTS.values(), "a [MASK] b", ""]
    own = tokenizer.encode(texts)
    assert tokenizer.mask_id in own[-2]
    found = theirs(texts, padding=True)
    for ids, mask, expected in zip(found["input_ids"], found["attention_mask"], own, strict=True):
        length = len(expected) + 2
        assert ids[:length] == tokenizer.sequence(expected).tolist()
        assert [*ids[length:]] == [tokenizer.pad_id] * (len(ids) - length)
        assert mask == [1] * length + [0] * (len(ids) - length)
    pair = theirs(texts[0], texts[1])
    assert pair["input_ids"] == tokenizer.sequence(own[0], own[1]).tolist()
    assert pair["token_type_ids"] == [0] * (len(own[0]) + 2) + [1] * (len(own[1]) + 1)
    assert sorted(theirs.all_special_ids) == [*range(5)]
    again = open_tokenizer(str(tmp_path / "model"), "run")
    assert (again.fingerprint, again.roles) == (tokenizer.fingerprint, tokenizer.roles)
    fill = pipeline("fill-mask", model=str(tmp_path / "model"))
    assert len(fill("The [MASK] reader.")) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_is_trained_once(
    kind: str,
    experiment_config: Callable[..., Config],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("BERTEXP_CACHE", str(tmp_path))
    corpus = ("dataset=synthetic", "dataset.synthetic.documents=20")
    config = experiment_config(f"tokenizer={kind}", "tokenizer.vocab_size=300", *corpus)
    first, second = (prepare_tokenizer(config) for _ in range(2))
    assert first.fingerprint == second.fingerprint
    assert len(list((tmp_path / "tokenizer").glob("*/tokenizer.json"))) == 1
    assert first.backend.normalizer.normalize_str("Ab") == ("ab" if kind == "wordpiece" else "Ab")


def test_bytes_need_their_places(experiment_config: Callable[..., Config]) -> None:
    with pytest.raises(UserError, match=r"^tokenizer\.vocab_size=260: must be at least 261 with"):
        experiment_config("tokenizer=bpe", "tokenizer.vocab_size=260")
