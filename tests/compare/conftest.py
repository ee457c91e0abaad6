"""Runs for comparisons: made up for the statistics, and real ones by the commands users type."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bertexp.compare.runs import Run

MakeRun = Callable[..., Run]
Compare = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def make_run() -> MakeRun:
    """Return a function that makes up a run as it would be read from disk."""

    def make(
        losses: Sequence[float | None] = (2.0,),
        *,
        every: int = 10,
        seed: int | None = 0,
        status: str = "finished",
        tokens_per_step: float = 100.0,
        metric: str = "eval/loss",
        written: float = 0.0,
        fingerprints: dict[str, Any] | None = None,
        versions: dict[str, str] | None = None,
        folder: str | None = None,
        **config: Any,
    ) -> Run:
        values = {key.replace("__", "."): value for key, value in config.items()}
        steps = range(every, every * len(losses) + 1, every)
        history = [
            {"step": step, "train/tokens": step * tokens_per_step, metric: loss}
            for step, loss in zip(steps, losses, strict=True)
        ]
        summary: dict[str, Any] = {
            "status": status,
            "tracker_id": f"mlm-s{seed}-0123abcd",
            "fingerprints": fingerprints or {"corpus": "c", "tokenizer": "t", "bank": "b"},
            "versions": versions or {"git_commit": "0" * 40},
        }
        if status == "finished" and losses:
            summary["metrics"] = {metric: losses[-1]}
            summary["budget"] = {"step": steps[-1], "tokens": steps[-1] * tokens_per_step}
        name = folder or ",".join(f"{key}={value}" for key, value in values.items())
        full = {"seed": seed, "task.max_length": 128, **values}
        return Run(Path(f"{name},seed={seed}"), full, summary, history, status, None, written)

    return make


@pytest.fixture(scope="session")
def compare_command(clean_environment: dict[str, str]) -> Compare:
    """Return a function that runs ``python -m bertexp.compare`` in a folder."""

    def run(
        folder: Path, *arguments: str, python: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *python, "-m", "bertexp.compare", *arguments],
            cwd=folder,
            env=clean_environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run
