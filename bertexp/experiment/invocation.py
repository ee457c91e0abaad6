"""How a run was started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bertexp.experiment.resuming import Resume
from bertexp.signals import Signals


class Job(Protocol):
    """A job of a sweep: it prints lines of its own instead of a report."""

    @property
    def overrides(self) -> Sequence[str]:
        """What it differs in from the other jobs."""

    @property
    def shows_bar(self) -> bool:
        """Whether the terminal is its own to draw a bar on."""

    def planned(self, seconds: float) -> None:
        """Take note of how long the job will train."""


@dataclass(frozen=True)
class Invocation:
    """Where a run is, where it begins, and who started it.

    Attributes:
        folder: the run's folder, which exists.
        resume: the checkpoint to resume from, if there is one.
        signals: what may ask it to stop.
        job: the sweep's job that this is, or None.
    """

    folder: Path
    resume: Resume
    signals: Signals
    job: Job | None
