"""Tokenizers: the same cuts as transformers makes, trained alike everywhere, clear refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.data.tokens.wordpiece import SPECIAL_TOKENS, train_wordpiece
from bertexp.validation import UserError

WORDS = ["the", "cat", "sat", "##s", "on", "a", "mat", ".", "e", "é", "É", "E", "##f", "x", "漢"]


def write_vocabulary(path: Path, tokens: list[str], special: tuple[str, ...] = ()) -> Path:
    path.write_text("\n".join([*(special or SPECIAL_TOKENS), *tokens]) + "\n", encoding="utf-8")
    return path


def test_real_text_is_cut_as_transformers_cuts_it(
    real_tokenizer: Tokenizer, real_vocabulary: Path, real_text: Path
) -> None:
    from transformers import BertTokenizer

    vocabulary = {
        token: index for index, token in enumerate(real_vocabulary.read_text().splitlines())
    }
    theirs = BertTokenizer(vocab=vocabulary, do_lower_case=True)
    lines = real_text.read_text(encoding="utf-8").splitlines()[::7]
    expected = theirs(lines, add_special_tokens=False)["input_ids"]
    assert real_tokenizer.encode(lines) == expected
    assert sum(map(len, expected)) > 30_000
    assert (real_tokenizer.pad_id, real_tokenizer.unk_id) == (0, 100)
    assert (real_tokenizer.opening_id, real_tokenizer.closing_id, real_tokenizer.mask_id) == (
        101,
        102,
        103,
    )


@settings(deadline=None, max_examples=100)
@given(text=st.text(max_size=60), lowercase=st.booleans())
def test_any_text_is_cut_as_transformers_cuts_it(
    load: Callable[..., Tokenizer], tmp_path_factory: pytest.TempPathFactory,
    text: str, lowercase: bool,
) -> None:  # fmt: skip
    from transformers import BertTokenizer

    path = write_vocabulary(tmp_path_factory.getbasetemp() / "vocab.txt", WORDS)
    ours = load(path, lowercase=lowercase)
    vocabulary = {token: index for index, token in enumerate([*SPECIAL_TOKENS, *WORDS])}
    theirs = BertTokenizer(vocab=vocabulary, do_lower_case=lowercase)
    assert ours.encode([text]) == [theirs(text, add_special_tokens=False)["input_ids"]]


def test_case_is_folded_only_when_asked(load: Callable[..., Tokenizer], tmp_path: Path) -> None:
    path = write_vocabulary(tmp_path / "vocab.txt", WORDS)
    folded, kept = load(path, lowercase=True), load(path, lowercase=False)
    assert [folded.tokens[i] for i in folded.encode(["É E é"])[0]] == ["e", "e", "e"]
    assert [kept.tokens[i] for i in kept.encode(["É E é"])[0]] == ["É", "E", "é"]
    assert folded.fingerprint != kept.fingerprint


TRAIN = """
import sys
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.data.tokens.wordpiece import train_wordpiece
texts = open(sys.argv[1], encoding="utf-8").read().splitlines()
print(Tokenizer(train_wordpiece(texts, 600, True)).fingerprint)
"""


def test_training_gives_the_same_in_every_process(
    clean_environment: dict[str, str], tmp_path: Path
) -> None:
    words = [f"{a}{b}{c}" for a in "bdfgk" for b in ("a", "ei", "ou") for c in ("n", "st", "rk")]
    texts = [" ".join(words[i % 7 :: 1 + i % 5]) + f" {i}." for i in range(300)]
    (tmp_path / "texts").write_text("\n".join(texts), encoding="utf-8")
    here = Tokenizer(train_wordpiece(texts, 600, True))
    assert 100 < here.vocab_size <= 600
    assert here.tokens[: len(SPECIAL_TOKENS)] == list(SPECIAL_TOKENS)
    for hash_seed, threads in (("1", "1"), ("2", "2")):
        environment = {"PYTHONHASHSEED": hash_seed, "RAYON_NUM_THREADS": threads}
        done = subprocess.run(
            [sys.executable, "-c", TRAIN, str(tmp_path / "texts")],
            env=clean_environment | environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == here.fingerprint


@pytest.mark.parametrize("lowercase", [True, False])
def test_an_exported_tokenizer_is_the_same_for_autotokenizer_and_for_us(
    load: Callable[..., Tokenizer], tmp_path: Path, lowercase: bool
) -> None:
    from transformers import AutoTokenizer

    texts = ["The cat sat on the mat.", "Éfs CATS 漢字 naïve", "", "[MASK] the", "x" * 150]
    backend = train_wordpiece(["The cat sat on the Mat. É漢"] * 3, 80, lowercase)
    ours = Tokenizer(backend)
    ours.to_transformers(64).save_pretrained(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs(texts, add_special_tokens=False)["input_ids"] == ours.encode(texts)
    assert theirs.model_max_length == 64
    pair = theirs("the cat", "sat")
    row = [ours.opening_id, *ours.encode(["the cat"])[0], ours.closing_id]
    second = [*ours.encode(["sat"])[0], ours.closing_id]
    assert pair["input_ids"] == row + second
    assert pair["token_type_ids"] == [0] * len(row) + [1] * len(second)
    again = load(tmp_path)
    assert again.encode(texts) == ours.encode(texts)
    assert again.tokens == ours.tokens


def test_a_loaded_tokenizer_is_exported_with_its_own_normalisation(
    load: Callable[..., Tokenizer], tmp_path: Path
) -> None:
    """Uncased models that keep accents exist: German and Turkish ones among them."""
    from transformers import AutoTokenizer, BertTokenizer

    vocabulary = {token: index for index, token in enumerate([*SPECIAL_TOKENS, *WORDS])}
    BertTokenizer(
        vocab=vocabulary, do_lower_case=True, strip_accents=False, tokenize_chinese_chars=False
    ).save_pretrained(tmp_path / "before")
    ours = load(tmp_path / "before")
    assert [ours.tokens[i] for i in ours.encode(["É"])[0]] == ["é"]
    ours.to_transformers(64).save_pretrained(tmp_path / "after")
    after = AutoTokenizer.from_pretrained(tmp_path / "after")
    texts = ["É the cat", "x漢x", "漢"]
    assert after(texts, add_special_tokens=False)["input_ids"] == ours.encode(texts)


@pytest.mark.parametrize("missing", SPECIAL_TOKENS)
def test_a_vocabulary_without_a_special_token_is_refused(
    load: Callable[..., Tokenizer], tmp_path: Path, missing: str
) -> None:
    special = tuple(token for token in SPECIAL_TOKENS if token != missing)
    path = write_vocabulary(tmp_path / "vocab.txt", WORDS, special)
    with pytest.raises(UserError, match=r"^tokenizer\.path=.*vocab\.txt: no \[") as caught:
        load(path)
    assert missing in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lines", [[*WORDS, "the"], [*WORDS[:3], "", *WORDS[3:]]])
def test_a_vocabulary_with_a_repeated_or_empty_line_works_or_is_refused(
    load: Callable[..., Tokenizer], tmp_path: Path, lines: list[str]
) -> None:
    """An id beyond ``vocab_size`` would end in an IndexError in the middle of a batch."""
    path = write_vocabulary(tmp_path / "vocab.txt", lines)
    try:
        tokenizer = load(path)
    except UserError as error:
        assert "tokenizer.path" in str(error)
    else:
        ids = tokenizer.encode(["the cat sat on a mat . e x 漢"])[0]
        assert max(ids) < tokenizer.vocab_size


def unigram(path: Path) -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers import models

    Backend(models.Unigram([("a", 0.0)])).save(str(path))


@pytest.mark.parametrize(
    ("name", "write", "says"),
    [
        ("empty.txt", lambda path: path.write_text(""), r"no \[PAD\]"),
        ("prose.txt", lambda path: path.write_text("Once upon a time\n"), r"no \[PAD\]"),
        ("bytes.txt", lambda path: path.write_bytes(b"\xff\xfe\x00"), "cannot be read"),
        ("unigram.json", unigram, "has no .*, which is to be its pad_token"),
        ("broken.json", lambda path: path.write_text("{"), "broken.json"),
        ("other.json", lambda path: path.write_text(json.dumps({"a": 1})), "other.json"),
        ("folder", lambda path: path.mkdir(), "no folder with a tokenizer"),
    ],
)
def test_what_is_no_vocabulary_is_refused_in_one_line(
    load: Callable[..., Tokenizer],
    tmp_path: Path,
    name: str,
    write: Callable[[Path], object],
    says: str,
) -> None:
    write(tmp_path / name)
    with pytest.raises(UserError, match=says) as caught:
        load(tmp_path / name)
    assert str(caught.value).startswith("tokenizer.path=")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(load: Callable[..., Tokenizer]) -> None:
    with pytest.raises(UserError, match=r"^tokenizer\.path=/no/such/vocab\.txt: "):
        load("/no/such/vocab.txt")
