"""What the tests of sweeps share: small jobs, a place to run them in, what they leave behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def small() -> tuple[str, ...]:
    """Overrides that make a job take a moment."""
    return (
        *("dataset=synthetic", "dataset.synthetic.documents=40", "tokenizer.vocab_size=256"),
        *("model.hidden_size=32", "model.intermediate_size=64", "trainer.batch_size=8"),
        *("trainer.epochs=null", "trainer.max_steps=6", "trainer.log_every=2"),
        "evaluation.probes=[]",
        *("evaluation.max_examples=8", "evaluation.pseudo_perplexity=null"),
        *("hardware.threads=1", "tracker=none"),
    )


@pytest.fixture(scope="session")
def sweep(
    command: Callable[..., Any], small: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Any]:
    """Return a function that sweeps over small jobs, all in one folder with one cache."""
    return partial(command, "-m", *small, folder=tmp_path_factory.mktemp("sweeps"))


class Jobs:
    """The jobs of a sweep's folder, by name."""

    def __init__(self, done: Any, name: str) -> None:
        self.root = done.folder / "outputs" / "sweeps" / name
        self.names = {path.name for path in self.root.glob("*/")}

    def summary(self, name: str) -> dict[str, Any]:
        """Return a job's summary."""
        return json.loads((self.root / name / "summary.json").read_text())

    def status(self) -> dict[str, str]:
        """Return how each job ended."""
        return {name: self.summary(name)["status"] for name in self.names}

    def files(self, name: str) -> dict[Path, tuple[int, int]]:
        """Return identity and time of change of every file of a job."""
        found = (path for path in (self.root / name).rglob("*") if path.is_file())
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}

    def records(self, name: str) -> list[dict[str, float]]:
        """Return what a job logged, times left out."""
        lines = (self.root / name / "metrics.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        times = ("train/tokens_per_second", "train/seconds", "train/mfu")
        return [{k: v for k, v in row.items() if k not in times} for row in rows]


@pytest.fixture(scope="session")
def jobs() -> type[Jobs]:
    """Return what reads a sweep's folder."""
    return Jobs
