"""A job of a sweep, as it runs: its place among the others, and what it says."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from hydra.conf import HydraConf

from bertexp.experiment.summary import SUMMARY_FILE, read_summary
from bertexp.sweeps.launcher import jobs_at_once
from bertexp.sweeps.stored import seconds_a_job
from bertexp.tracking.progress import clock


@dataclass(frozen=True)
class SweepJob:
    """One of a sweep's jobs.

    Attributes:
        sweep: the sweep's name.
        folder: the job's folder, named by its overrides.
        number, total: which of how many jobs it is, from 1.
        at_once: jobs that run at the same time.
    """

    sweep: str
    folder: Path
    number: int
    total: int
    at_once: int

    @classmethod
    def of(cls, sweep: str, hydra: HydraConf) -> SweepJob:
        """Return the job that Hydra is running."""
        return cls(
            sweep=sweep,
            folder=Path(hydra.runtime.output_dir),
            number=hydra.job.num + 1,
            total=hydra.sweeper.total,
            at_once=jobs_at_once(hydra.launcher),
        )

    @property
    def overrides(self) -> list[str]:
        """What it differs in from the others, as far as its folder's name tells."""
        return self.folder.name.split(",")

    @property
    def shows_bar(self) -> bool:
        """Whether the terminal is its own to draw a bar on."""
        return self.at_once == 1 and sys.stderr.isatty()

    def begin(self) -> None:
        """Say which job begins and what time is left, and clear away what a failed one left."""
        if read_summary(self.folder).get("status") == "failed":
            self._start_over()
        left = ""
        if seconds := seconds_a_job(self.folder.parent):
            left = f"about {clock(seconds * self._rounds)} left"
        self._say(self.folder.name, left)

    def planned(self, seconds: float) -> None:
        """Say how long the sweep takes, where its first job is the first to know.

        Args:
            seconds: how long this job will train.
        """
        if self.number == 1 and seconds_a_job(self.folder.parent) is None:
            share = f"about {clock(seconds)} of training"
            self._say(f"{share}, {clock(seconds * self._rounds)} for all {self.total} jobs")

    def finished(self, objective: float) -> None:
        """Say how it ended."""
        self._say(f"eval/loss {objective:.3f}")

    @property
    def _rounds(self) -> float:
        """How many times as long as one job the rest of the sweep takes, this one included."""
        return (self.total - self.number + 1) / self.at_once

    def _start_over(self) -> None:
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
        (self.folder / SUMMARY_FILE).unlink()

    def _say(self, *parts: str) -> None:
        print(" · ".join(filter(None, (f"job {self.number}/{self.total}", *parts))), flush=True)
