"""How texts become a model's input, and what the tokens topic says of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertexp.data.tokens.inputs import ModelInput
from bertexp.data.tokens.roles import to_transformers
from bertexp.data.tokens.saved import open_tokenizer
from bertexp.experiment.prepare import Data
from bertexp.validation import UserError


def test_a_pair_is_cut_as_by_bert(real_vocabulary: Path) -> None:
    """The ids are those of ``bert-base-uncased`` for the tutorial's pair."""
    tokenizer = open_tokenizer(str(real_vocabulary), "tokenizer.path")
    found = ModelInput.of(tokenizer, "I love NLP!", "I love ai")
    assert found.ids == [101, 1045, 2293, 17953, 2361, 999, 102, 1045, 2293, 9932, 102]
    assert found.segments == [0] * 7 + [1] * 4
    assert found.words == ["", "I", "love", "NLP", "NLP", "!", "", "I", "love", "ai", ""]
    assert [n for n, is_piece in enumerate(found.is_piece) if is_piece] == [4]


@settings(deadline=None)
@given(st.text(), st.none() | st.text())
def test_any_text_is_cut_as_by_transformers(
    prepared: Callable[..., Data], text: str, text_b: str | None
) -> None:
    tokenizer = prepared().tokenizer
    theirs = to_transformers(tokenizer, 10**6)(text, text_b)
    cut = [tokenizer.encode([part])[0] for part in ([text] if text_b is None else [text, text_b])]
    if not all(cut):
        with pytest.raises(UserError, match="is empty"):
            ModelInput.of(tokenizer, text, text_b)
        return
    found = ModelInput.of(tokenizer, text, text_b)
    assert found.ids == theirs["input_ids"]
    assert found.segments == theirs["token_type_ids"]
    # Every piece knows its word, which is part of the text.
    for token, word in zip(found.tokens, found.words, strict=True):
        assert word in text or word in (text_b or "")
        assert word or token in ("[CLS]", "[SEP]")


def test_tokens_are_shown(command: Callable[..., Any], trained: Callable[[str], Path]) -> None:
    run = trained("mlm")
    text = "It's ${x}, [MASK] 'n' 漢"
    done = command("what=tokens", f"run={run}", f"text={text}", "task.pad_to=70",
                   module="bertexp.inspect")  # fmt: skip
    assert done.code == 0, done.lines
    rows = [line.split() for line in done.output.splitlines()]
    tokens = {row[0]: row[1:] for row in rows if row and row[0].isdigit()}
    assert tokens["0"] == ["[CLS]", "2", "0", "1"]
    assert ["[MASK]", "4", "0", "1", "[MASK]"] in tokens.values()
    assert ["[UNK]", "1", "0", "1", "漢", "unknown"] in tokens.values()
    assert [f"{len(tokens)}-69", "[PAD]", "0", "0"] in rows
    assert ["length", str(len(tokens)), "of", "64", "tokens"] in rows
    assert max(map(len, done.output.splitlines())) <= 80
    long = command("what=tokens", f"run={run}", "text=" + "a " * 100, module="bertexp.inspect")
    assert "length   102 of 64 tokens: 38 too many for the model" in long.output
