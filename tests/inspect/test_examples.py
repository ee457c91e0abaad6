"""``python -m bertexp.inspect``: masked examples, the audit, pairs, and mistakes in one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

TOPICS = "architecture, attention, embeddings, hidden, masking, pairs, tokens"
MISSPELT = f"error: what=maskin: must be one of {TOPICS}. Did you mean 'masking'?"
CORPUS = ("dataset=synthetic", "dataset.synthetic.documents=60", "tokenizer.vocab_size=256")


def test_ten_examples_and_the_audit_are_shown_without_colour_too(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    overrides = (*CORPUS, "masking=span", "masking.corrupt_prob=0.4", "task.format=packed")
    done = command(*overrides, module="bertexp.inspect", folder=tmp_path)
    said = done.output + done.errors
    assert done.code == 0, said
    assert max(map(len, said.splitlines())) <= 80
    assert "\x1b" not in said
    for mark in ("[token]", "{token}", "(token)", "<token>"):
        assert mark in said
    for figure in (
        "requested rate        15.00%",
        "whole words           100.0%",
        "without a prediction",
        "[SEP] between them",
    ):
        assert figure in said
    # Nothing is written but the cache.
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_text_of_ones_own_is_masked_as_a_run_masks(
    command: Callable[..., Any], trained: Callable[[str], Path]
) -> None:
    run = trained("mlm")
    vocabulary = AutoTokenizer.from_pretrained(run / "model").get_vocab()
    words = sorted(word for word in vocabulary if re.fullmatch("[a-z]{2,6}", word))[-7:]
    cache = {"BERTEXP_CACHE": str(run.parent / "cache")}
    done = command(
        *("what=masking", f"run={run}", f"text={' '.join(words[:4])}"),
        *(f"text_b={' '.join(words[4:])}", "masking.prob=0.4"),
        module="bertexp.inspect",
        **cache,
    )
    assert done.code == 0, done.lines
    lines = [line for line in done.lines if "[SEP]" in line]
    assert len(lines) == 10, "each of one line"
    for line in lines:
        bare = re.sub(r"\{[^<]+<", "", line)
        assert re.findall(r"\w+", bare) == [*words[:4], "SEP", *words[4:]]
    assert len({*lines}) > 5, "each draw is another"
    predicted = sum(len(re.findall(r"[\[({]", line)) - 1 for line in lines)
    assert f"predicted in 10 draws: {predicted} of 70 tokens, 0.4 requested" in done.lines
    assert 15 < predicted < 42
    long = command(f"text={'a ' * 200}", *CORPUS, module="bertexp.inspect")
    assert long.lines[-1].startswith("error: text: has ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("task=nsp",), "error: what=masking: task=nsp masks nothing; try task=mlm."),
        (("what=maskin",), MISSPELT),
        (("masking.prop=0.1",), "error: masking.prop: no such key. Did you mean 'masking.prob'?"),
    ],
)
def test_a_mistake_is_one_line(
    command: Callable[..., Any], arguments: tuple[str, ...], said: str
) -> None:
    done = command(*CORPUS, *arguments, module="bertexp.inspect")
    # Before it at most what was prepared.
    assert (done.code, done.lines[-1]) == (1, said)
    assert "Traceback" not in done.output + done.errors


def test_pairs_of_each_kind_are_shown(
    command: Callable[..., Any], trained: Callable[[str], Path]
) -> None:
    run = trained("nsp")
    done = command(
        *("what=pairs", f"run={run}", "task.negatives={swap: 0.5, same_document: 0.5}"),
        module="bertexp.inspect",
    )
    assert done.code == 0, done.lines
    lines = done.output.splitlines()
    assert max(map(len, lines)) <= 80
    labels = [line for line in lines if "  label " in line]
    assert len(labels) == 10
    for kind, label in (("next", "0, follows"), ("swap", "1, does not follow")):
        assert f"{kind}  label {label}" in labels
    assert sum(line.startswith("  A  ") for line in lines) == 10
    shares = {line.split()[0]: line.split()[1] for line in lines[-3:]}
    assert shares.keys() == {"next", "swap", "same_document"}
    assert shares["next"] == "50.0%"
