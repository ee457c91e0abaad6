"""``summary.json``: a run's settings, costs and results; sweeps read it before torch is loaded."""

from __future__ import annotations

import contextlib
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from bertexp.files import read_json, write_json
from bertexp.locks import is_held
from bertexp.metrics import own_rows

SUMMARY_FILE = "summary.json"
# Held by the process that uses the run's folder.
LOCK_FILE = ".lock"
# A dry run's status in ``summary.json``, and the key of its plan.
PLANNED = "planned"
# For each parameter in float32.
WEIGHT_BYTES = 4
PACKAGES = (
    "bertexp",
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "accelerate",
    "hydra-core",
    "wandb",
    # What the default corpus is read from.
    "numpy",
    "scipy",
    "scikit-learn",
)


@dataclass
class Clock:
    """The seconds that a run took, since its first start if it was resumed.

    Attributes:
        total: up to the last stop.
        preparation, evaluation, checkpoints, tracking: the parts that were not training.
    """

    total: float = 0.0
    preparation: float = 0.0
    evaluation: float = 0.0
    checkpoints: float = 0.0
    tracking: float = 0.0
    _began: float = field(default_factory=time.perf_counter)

    @contextmanager
    def counting(self, part: str) -> Iterator[None]:
        """Add the time of a ``with`` block to ``part``, the name of an attribute."""
        began = time.perf_counter()
        yield
        setattr(self, part, getattr(self, part) + time.perf_counter() - began)

    def read(self) -> dict[str, float]:
        seconds = {name: value for name, value in vars(self).items() if name != "_began"}
        return seconds | {"total": self.total + time.perf_counter() - self._began}


@dataclass(frozen=True)
class Part:
    """The cost of one phase, see ``Plan``."""

    steps: int
    epochs: float
    tokens: float
    flops: float
    step_seconds: float


@dataclass(frozen=True)
class Plan:
    """The cost of a run on the machine that planned it.

    Attributes:
        parameters: of the model, shared ones counted once.
        epochs, tokens, flops: after ``steps``, without padding. They are the same for all seeds if
            the examples are: operations are counted under a fixed seed.
        step_seconds: of a step with the mean number of tokens, from some real ones.
        evaluation_seconds: of all evaluations of the bank, from one that was measured; without
            probes and pseudo-perplexity, which are measured once at the end.
        peak_bytes: the peak memory of a process in these steps and this evaluation; of torch on a
            GPU.
        checkpoint_bytes, checkpoints: the size of one, and the most on disk at a time.
        step_examples: of all processes together.
        sharded: whether each process holds only a part of the optimizer's states.
        utilisation: the speed of the measured steps relative to the machine's matrix product.
        phases: the values of each phase's ``Part``.
    """

    parameters: int
    steps: int
    epochs: float
    tokens: float
    flops: float
    step_seconds: float
    evaluation_seconds: float
    peak_bytes: int
    checkpoint_bytes: int
    checkpoints: int
    processes: int
    step_examples: int
    sharded: bool
    utilisation: float
    phases: list[dict[str, Any]]

    @property
    def seconds(self) -> float:
        return self.steps * self.step_seconds + self.evaluation_seconds

    @property
    def model_bytes(self) -> int:
        return WEIGHT_BYTES * self.parameters

    @property
    def disk_bytes(self) -> int:
        """The largest size of the run's folder."""
        return self.checkpoints * self.checkpoint_bytes + self.model_bytes


def read_summary(folder: Path) -> dict[str, Any]:
    """Return a run's summary, empty if there is none; raises ``UserError`` if it is damaged."""
    return read_json(folder / SUMMARY_FILE)


def status(folder: Path, summary: Mapping[str, Any]) -> str:
    """Return ``finished``, ``failed``, ``interrupted``, ``running``, or ``killed``.

    A killed run could not record its end, but no process holds the lock on its folder any more.
    """
    written = str(summary.get("status", "running"))
    is_dead = written == "running" and not is_held(folder / LOCK_FILE)
    return "killed" if is_dead else written


def write_summary(folder: Path, values: Mapping[str, Any]) -> None:
    """Update keys of the run's summary, all or nothing.

    The rows of metrics that only its plugins know are added.
    """
    if rows := own_rows(values.get("metrics", {})):
        values = {**values, "metric_rows": rows}
    write_json(folder / SUMMARY_FILE, {**read_summary(folder), **values})


@contextmanager
def recording_failure(folder: Path) -> Iterator[None]:
    """Record in the summary that the run failed or was interrupted, if it does not end well."""

    def record(values: dict[str, str]) -> None:
        # On a full disk this fails too; the error that ended the run is the one to report.
        with contextlib.suppress(OSError):
            write_summary(folder, values)

    try:
        yield
    except KeyboardInterrupt:
        record({"status": "interrupted"})
        raise
    except Exception as error:
        record({"status": "failed", "error": f"{type(error).__name__}: {error}"})
        raise


@cache
def versions() -> dict[str, str | None]:
    """Return the versions of Python, of the main packages and of this code's commit."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found | {"git_commit": _git_commit()}


def _git_commit() -> str | None:
    """Return the commit of this code's checkout, with a ``+`` if files have changed since."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        tracked = git("ls-files", "--", Path(__file__).name)
        if not tracked:
            return None
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
