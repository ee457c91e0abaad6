"""Scripts beside the Latin one: how much of them a trained vocabulary knows, and what is said."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bertexp.config import Config
from bertexp.data.cache import fingerprint
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.data.tokens.unknown import check_unknown, unknown_share
from bertexp.data.tokens.wordpiece import train_wordpiece
from bertexp.experiment.prepare import prepare_data
from bertexp.validation import UserError


def made_up(first: str, characters: int, words: range, gap: str, step: int = 2) -> list[str]:
    """Return 1000 sentences of 20 words, whose characters are as unequally common as real ones."""
    generator = np.random.default_rng(0)
    weights = 1 / (np.arange(characters) + 60) ** 1.45
    drawn = iter(generator.choice(characters, 1_000 * 20 * words[-1], p=weights / weights.sum()))
    sizes = generator.choice(words, (1_000, 20))
    return [
        gap.join("".join(chr(ord(first) + step * next(drawn)) for _ in range(n)) for n in row) + "."
        for row in sizes
    ]


def share(texts: list[str], vocab_size: int, lowercase: bool) -> float:
    tokenizer = Tokenizer(train_wordpiece(texts, vocab_size, lowercase))
    assert tokenizer.vocab_size <= vocab_size
    return unknown_share(counts(tokenizer, texts), tokenizer)


def counts(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    ids = [index for row in tokenizer.encode(texts) for index in row]
    return np.bincount(ids, minlength=tokenizer.vocab_size)


@pytest.mark.parametrize(
    ("script", "vocab_size", "most"),
    [
        (("一", 5200, range(1, 2), ""), 2048, 0.08),
        (("一", 5200, range(1, 2), ""), 8192, 0.001),
        # A syllable with which words begin and one within them are two tokens.
        (("가", 2350, range(1, 5), " "), 8192, 0.02),
        (("ก", 46, range(5, 31), " ", 1), 2048, 0.001),
    ],
)
def test_a_trained_vocabulary_has_the_characters_of_its_corpus(
    script: tuple[str, int, range, str], vocab_size: int, most: float
) -> None:
    # Kept as they are: without accents, Hangul becomes letters.
    assert share(made_up(*script), vocab_size, lowercase=False) <= most


def test_the_vocabulary_of_a_small_alphabet_is_the_one_it_always_was() -> None:
    words = [f"{a}{b}{c}" for a in "bdfgk" for b in ("a", "ei", "ou") for c in ("n", "st", "rk")]
    texts = [" ".join(words[i % 7 :: 1 + i % 5]) + f" {i}." for i in range(300)]
    tokens = Tokenizer(train_wordpiece(texts, 600, True)).tokens
    assert fingerprint(tokens) == "81600dcadbaea05c"


def check(texts: list[str], others: list[str]) -> None:
    """Check texts under a tokenizer that was trained on others."""
    tokenizer = Tokenizer(train_wordpiece(others, 256, True))
    check_unknown(counts(tokenizer, texts), tokenizer, texts, "these", "do something")


ENGLISH = ["The old river follows the bridge, and the stone."] * 3


def test_many_unknown_words_are_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check([*ENGLISH, "The old 江 follows."], ENGLISH)
    assert caplog.messages == []
    check(["The old 江 follows the 橋 and the 江."], ENGLISH)
    said = "these: 30.0% of the tokens are [UNK], such as '江', '橋'; do something."
    assert caplog.messages == [said]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["강은 다리를 따라.", "강은."], "such as '강은'.*; do something"),
        (["ACGT" * 30 + "."], "most are over 100 characters long.* put spaces between"),
    ],
)
def test_text_of_which_no_word_is_known_is_refused(texts: list[str], said: str) -> None:
    with pytest.raises(UserError, match=f"^these: the tokenizer knows none of its words.*{said}"):
        check(texts, ["The old river."])


@pytest.mark.parametrize("task", ["mlm", "nsp"])
def test_what_cannot_be_predicted_ends_before_training(
    task: str, experiment_config: Callable[..., Config], empty_cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "dna.txt").write_text("\n\n".join("ACGT" * 30 + "TA" * n for n in range(40)))
    files = f"dataset.files=[{tmp_path / 'dna.txt'}]"
    with pytest.raises(UserError, match=r"^dataset=text \(train\): the tokenizer knows none"):
        prepare_data(experiment_config(f"task={task}", "dataset=text", files))
