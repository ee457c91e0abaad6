"""A job of a sweep, as it runs: its place among the others, what it prints, its GPUs."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from hydra.conf import HydraConf
from omegaconf import DictConfig

from bertexp.console import clock
from bertexp.experiment.summary import SUMMARY_FILE, read_summary
from bertexp.locks import Timeout, acquire

VISIBLE = "CUDA_VISIBLE_DEVICES"
# Held until the process ends: a process has its GPUs for all the jobs it does.
_held: list[AbstractContextManager[object]] = []


@dataclass(frozen=True)
class SweepJob:
    """One of a sweep's jobs; ``number`` counts from 1, ``at_once`` jobs run at the same time."""

    folder: Path
    number: int
    total: int
    at_once: int

    @classmethod
    def of(cls, hydra: HydraConf) -> SweepJob:
        return cls(
            folder=Path(hydra.runtime.output_dir),
            number=hydra.job.num + 1,
            total=hydra.sweeper.total,
            at_once=jobs_at_once(hydra.launcher),
        )

    @property
    def overrides(self) -> list[str]:
        """What it differs in from the others, as far as its folder's name shows."""
        return self.folder.name.split(",")

    @property
    def shows_bar(self) -> bool:
        return self.at_once == 1 and sys.stderr.isatty()

    def begin(self) -> None:
        """Print which job begins and what time is left; clear away what a failed one left."""
        if self.at_once > 1:
            take_gpus(self.folder.parent, self.at_once)
        if read_summary(self.folder).get("status") == "failed":
            shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
            (self.folder / SUMMARY_FILE).unlink()
        left = ""
        if seconds := seconds_a_job(self.folder.parent):
            left = f"about {clock(seconds * self._rounds)} left"
        self._print(self.folder.name, left)

    def planned(self, seconds: float) -> None:
        """Print how long the sweep takes, judged by the first job: it trains for ``seconds``."""
        if self.number == 1 and seconds_a_job(self.folder.parent) is None:
            share = f"about {clock(seconds)} of training"
            self._print(f"{share}, {clock(seconds * self._rounds)} for all {self.total} jobs")

    def finished(self, objective: float) -> None:
        self._print(f"eval/loss {objective:.3f}")

    @property
    def _rounds(self) -> float:
        """The time for the rest of the sweep, this job included, in durations of one job."""
        return (self.total - self.number + 1) / self.at_once

    def _print(self, *parts: str) -> None:
        print(" · ".join(filter(None, (f"job {self.number}/{self.total}", *parts))), flush=True)


def jobs_at_once(launcher: DictConfig) -> int:
    jobs = int(launcher.n_jobs) if "n_jobs" in launcher else 1
    return jobs if jobs > 0 else os.cpu_count() or 1


def seconds_a_job(sweep_folder: Path) -> float | None:
    """Return what the finished jobs took on average, data being prepared; None if none is."""
    summaries = (read_summary(path.parent) for path in sweep_folder.glob(f"*/{SUMMARY_FILE}"))
    spent = [summary["seconds"] for summary in summaries if summary["status"] == "finished"]
    took = [seconds["total"] - seconds["preparation"] for seconds in spent]
    return sum(took) / len(took) if took else None


def take_gpus(sweep: Path, at_once: int) -> None:
    """Let this process see its share of the GPUs alone, if there are any.

    Its share of the cores joblib gives it: it sets OMP_NUM_THREADS. Locks in the folder ``sweep``
    show which shares are taken.
    """
    import torch

    named = [name for name in os.environ.get(VISIBLE, "").split(",") if name]
    gpus = named or [str(number) for number in range(torch.cuda.device_count())]
    if _held or not gpus:
        return
    place = _free_place(sweep, at_once)
    # Where there are fewer GPUs than jobs, several share one.
    os.environ[VISIBLE] = ",".join(gpus[place::at_once] or [gpus[place % len(gpus)]])


def _free_place(sweep: Path, places: int) -> int:
    for place in range(places):
        try:
            _held.append(acquire(sweep / f".gpus-{place}", seconds=0))
        except Timeout:
            continue
        return place
    raise AssertionError("more jobs at once than the launcher was configured for")
