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
from bertexp.data.tokens.training import TRAINERS
from bertexp.data.tokens.wordpiece import SPECIAL_TOKENS
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
from bertexp.data.tokens.training import TRAINERS
texts = open(sys.argv[1], encoding="utf-8").read().splitlines()
for train, _ in TRAINERS.values():
    print(Tokenizer(train(texts, 600, True)).fingerprint)
"""


def test_training_gives_the_same_in_every_process(
    clean_environment: dict[str, str], tmp_path: Path
) -> None:
    words = [f"{a}{b}{c}" for a in "bdfgk" for b in ("a", "ei", "ou") for c in ("n", "st", "rk")]
    texts = [" ".join(words[i % 7 :: 1 + i % 5]) + f" {i}." for i in range(300)]
    (tmp_path / "texts").write_text("\n".join(texts), encoding="utf-8")
    here = [Tokenizer(train(texts, 600, True)) for train, _ in TRAINERS.values()]
    for each in here:
        assert 100 < each.vocab_size <= 600
        assert each.tokens[: len(SPECIAL_TOKENS)] == list(SPECIAL_TOKENS)
    for hash_seed, threads in (("1", "1"), ("2", "2")):
        environment = {"PYTHONHASHSEED": hash_seed, "RAYON_NUM_THREADS": threads}
        done = subprocess.run(
            [sys.executable, "-c", TRAIN, str(tmp_path / "texts")],
            env=clean_environment | environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == [each.fingerprint for each in here]


def unigram(path: Path) -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers import models

    Backend(models.Unigram([("a", 0.0)])).save(str(path))


@pytest.mark.parametrize(
    ("name", "write", "says"),
    [
        ("empty.txt", lambda path: path.write_text(""), r"no \[PAD\]"),
        ("prose.txt", lambda path: path.write_text("Once upon a time\n"), r"no \[PAD\]"),
        (
            "no-mask.txt",
            lambda path: write_vocabulary(path, WORDS, SPECIAL_TOKENS[:4]),
            r"\[MASK\]",
        ),
        ("twice.txt", lambda path: write_vocabulary(path, [*WORDS, "the"]), "'the' is repeated"),
        ("gap.txt", lambda path: write_vocabulary(path, [*WORDS, "", "z"]), "is empty"),
        ("bytes.txt", lambda path: path.write_bytes(b"\xff\xfe\x00"), "cannot be read"),
        ("unigram.json", unigram, "vocabulary of 1 tokens has no"),
        ("broken.json", lambda path: path.write_text("{"), "broken.json"),
        ("other.json", lambda path: path.write_text(json.dumps({"a": 1})), "other.json"),
        ("folder", lambda path: path.mkdir(), "has no tokenizer"),
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
