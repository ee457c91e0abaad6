"""The pairs topic: pairs of a trained run with the kinds they are trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_pairs_of_each_kind_are_shown(
    command: Callable[..., Any], trained: Callable[[str], Path]
) -> None:
    run = trained("nsp")
    done = command(
        *("what=pairs", f"run={run}", "task.negatives={swap: 0.5, same_document: 0.5}"),
        module="bertexp.inspect",
    )
    assert done.code == 0, done.said
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
