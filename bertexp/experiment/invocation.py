"""How a run was started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bertexp.experiment.resuming import Resume
from bertexp.signals import Signals


class Job(Protocol):
    """A job of a sweep, which prints its own lines instead of a report."""

    @property
    def overrides(self) -> Sequence[str]:
        """The overrides that differ from those of other jobs."""

    @property
    def at_once(self) -> int:
        """The number of jobs that run at the same time."""

    @property
    def is_first(self) -> bool:
        """Whether it is the sweep's first, for which the time of all is estimated."""

    @property
    def shows_bar(self) -> bool:
        """Whether it may draw a progress bar on the terminal."""

    def planned(self, seconds: float) -> None:
        """Report how long this job, the first, will train."""


@dataclass(frozen=True)
class Invocation:
    """A run's folder, where it starts, and what started it; ``job`` is None outside of a sweep."""

    folder: Path
    resume: Resume
    signals: Signals
    job: Job | None

    @property
    def at_once(self) -> int:
        """The number of runs that share this machine, as far as is known."""
        return self.job.at_once if self.job else 1
