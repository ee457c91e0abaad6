"""``python -m bertexp.inspect``: masked examples, the audit, and mistakes in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOPICS = "architecture, attention, embeddings, hidden, masking, pairs, tokens"
MISSPELT = f"error: what=maskin: must be one of {TOPICS}. Did you mean 'masking'?"
CORPUS = ("dataset=synthetic", "dataset.synthetic.documents=60", "tokenizer.vocab_size=256")


def look(folder: Path, *arguments: str) -> tuple[int, str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "BERTEXP_CACHE": str(folder / "cache")}
    environment.pop("HYDRA_FULL_ERROR", None)
    done = subprocess.run(
        [sys.executable, "-m", "bertexp.inspect", *CORPUS, *arguments],
        cwd=folder,
        env=environment | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def test_ten_examples_and_the_audit_are_shown_without_colour_too(tmp_path: Path) -> None:
    code, said = look(tmp_path, "masking=span", "masking.corrupt_prob=0.4")
    assert code == 0, said
    assert max(map(len, said.splitlines())) <= 80
    assert "\x1b" not in said
    for mark in ("[token]", "{token}", "(token)", "<token>"):
        assert mark in said
    for figure in ("requested rate     15.00%", "whole words        100.0%", "helped"):
        assert figure in said
    # Nothing is written but the cache.
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("task=nsp",), "error: what=masking: task=nsp masks nothing; try task=mlm."),
        (("what=maskin",), MISSPELT),
        (("masking.prop=0.1",), "error: masking.prop: no such key. Did you mean 'masking.prob'?"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    code, output = look(tmp_path, *arguments)
    # Before it at most what was prepared.
    assert (code, output.strip().splitlines()[-1]) == (1, said)
    assert "Traceback" not in output
