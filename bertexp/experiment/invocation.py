"""How a run was started: alone, or as a job of a sweep, among others."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from hydra.conf import HydraConf
from hydra.types import RunMode
from omegaconf import DictConfig

from bertexp import group
from bertexp.console import clock
from bertexp.experiment.resuming import Resume
from bertexp.experiment.summary import SUMMARY_FILE, read_summary
from bertexp.locks import Timeout, acquire
from bertexp.signals import Signals
from bertexp.validation import UserError

# Keys that Hydra does not read without -m.
OF_SWEEPS = tuple(f"hydra{dot}{part}" for dot in "/." for part in ("sweep", "launcher"))
VISIBLE = "CUDA_VISIBLE_DEVICES"
# Held until the process ends: a process keeps its GPUs for all its jobs.
_held: list[AbstractContextManager[object]] = []


@dataclass(frozen=True)
class SweepJob:
    """One of a sweep's jobs; ``number`` counts from 1, ``at_once`` jobs run at the same time."""

    folder: Path
    number: int
    total: int
    at_once: int

    @property
    def overrides(self) -> list[str]:
        """The overrides that are its own, as in the name of its folder."""
        return self.folder.name.split(",")

    @property
    def is_first(self) -> bool:
        return self.number == 1

    @property
    def shows_bar(self) -> bool:
        return self.at_once == 1 and sys.stderr.isatty()

    def begin(self) -> None:
        """Print its place and the time left; remove the checkpoints of a failed attempt."""
        if self.at_once > 1:
            take_gpus(self.folder.parent, self.at_once)
        if read_summary(self.folder).get("status") == "failed":
            shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
            (self.folder / SUMMARY_FILE).unlink()
        left = ""
        if seconds := seconds_a_job(self.folder.parent):
            left = f"about {clock(seconds * self._rounds)} left"
        self._print(self.folder.name, left)

    def planned(self, seconds: float, *, is_resumed: bool) -> None:
        """Print how long this job takes, and the sweep unless this job is resumed."""
        if seconds_a_job(self.folder.parent) is None:
            together = f", {clock(seconds * self._rounds)} for all {self.total} jobs"
            self._print(f"about {clock(seconds)} of training{together * (not is_resumed)}")

    def finished(self, objective: float) -> None:
        self._print(f"eval/loss {objective:.3f}")

    @property
    def _rounds(self) -> float:
        """The time left for the sweep, including this job, in durations of one job."""
        return (self.total - self.number + 1) / self.at_once

    def _print(self, *parts: str) -> None:
        print(" · ".join(filter(None, (f"job {self.number}/{self.total}", *parts))), flush=True)


@dataclass(frozen=True)
class Invocation:
    """A run's folder, where it starts, and what started it; ``job`` is None outside of a sweep."""

    folder: Path
    resume: Resume
    signals: Signals
    job: SweepJob | None

    @property
    def at_once(self) -> int:
        """The number of runs that share this machine, as far as is known."""
        return self.job.at_once if self.job else 1


def begin_job(hydra: HydraConf) -> SweepJob | None:
    """Begin the job of a sweep that Hydra has started; None for a run outside of a sweep.

    Raises:
        UserError: a setting of sweeps without a sweep, or a sweep that torchrun has started.
    """
    if hydra.mode != RunMode.MULTIRUN:
        for override in hydra.overrides.hydra:
            if override.lstrip("+").startswith(OF_SWEEPS):
                raise UserError(f"{override}: is for a sweep; add -m.")
        return None
    if group.was_launched():
        raise UserError(
            "hydra.mode=MULTIRUN: a sweep starts the processes of each job by itself; use "
            "hardware.num_processes, without torchrun."
        )
    folder, number = Path(hydra.runtime.output_dir), hydra.job.num + 1
    job = SweepJob(folder, number, hydra.sweeper.total, jobs_at_once(hydra.launcher))
    job.begin()
    return job


def jobs_at_once(launcher: DictConfig) -> int:
    jobs = int(launcher.n_jobs) if "n_jobs" in launcher else 1
    return jobs if jobs > 0 else os.cpu_count() or 1


def seconds_a_job(sweep_folder: Path) -> float | None:
    """Return the mean time of the finished jobs, without preparing data; None if none is."""
    summaries = (read_summary(path.parent) for path in sweep_folder.glob(f"*/{SUMMARY_FILE}"))
    spent = [summary["seconds"] for summary in summaries if summary["status"] == "finished"]
    took = [seconds["total"] - seconds["preparation"] for seconds in spent]
    return sum(took) / len(took) if took else None


def gpus() -> list[str]:
    """Return the GPUs that this process may use."""
    import torch

    named = [name for name in os.environ.get(VISIBLE, "").split(",") if name]
    return named or [str(number) for number in range(torch.cuda.device_count())]


def take_gpus(sweep: Path, at_once: int) -> None:
    """Restrict this process to its share of the GPUs, if there are any.

    Locks in the folder ``sweep`` mark the shares that are taken. joblib divides the cores itself,
    by OMP_NUM_THREADS.
    """
    if _held or not (found := gpus()):
        return
    place = _free_place(sweep, at_once)
    # With fewer GPUs than jobs, several jobs share one.
    os.environ[VISIBLE] = ",".join(found[place::at_once] or [found[place % len(found)]])


def _free_place(sweep: Path, places: int) -> int:
    for place in range(places):
        try:
            _held.append(acquire(sweep / f".gpus-{place}", seconds=0))
        except Timeout:
            continue
        return place
    raise AssertionError("more jobs at once than the launcher was configured for")
