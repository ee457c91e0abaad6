"""Reads a run's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# Of the machine, not of the run.
TIMED = {"train/tokens_per_second", "train/seconds", "train/mfu"}


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def summary(run: Path) -> dict[str, Any]:
    """Return ``summary.json``."""
    found: dict[str, Any] = json.loads((run / "summary.json").read_text(), parse_constant=_refuse)
    return found


def rows(run: Path) -> list[dict[str, Any]]:
    """Return the lines of ``metrics.jsonl``; none if there is no such file yet."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line, parse_constant=_refuse) for line in lines]


def untimed(run: Path) -> list[dict[str, Any]]:
    """Return those lines without what the machine's speed decides."""
    return [{name: row[name] for name in row.keys() - TIMED} for row in rows(run)]
