"""Launches the jobs of a sweep that are left to do."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from bertexp.sweeps.stored import (
    SCHEMAS,
    StoredJob,
    all_keys,
    outcome,
    read_job,
    seconds_a_job,
    stored_jobs,
)
from bertexp.sweeps.unread import refuse_unread_in_sweep
from bertexp.tracking.progress import clock
from bertexp.validation import UserError

# A job's folder is named after its overrides, up to this many characters.
FOLDER_NAME_LENGTH = 120
# Where the jobs of a dry run work, within the sweep's folder.
DRY_RUNS = ".dry_runs"


@dataclass(frozen=True)
class _Planned:
    """A job to be: what it is composed of, what is known of it, and the folder it works in."""

    overrides: list[str]
    composed: DictConfig
    stored: StoredJob
    folder: Path

    def placed(self, subdir: Path, total: int) -> tuple[list[str], DictConfig]:
        """Return its overrides and its configuration, with its folder and the number of jobs."""
        more = [f"hydra.sweep.subdir='{subdir}'", f"+hydra.sweeper.total={total}"]
        with open_dict(self.composed):
            hydra = self.composed.hydra
            hydra.sweep.subdir, hydra.sweeper.total = str(subdir), total
            hydra.overrides.hydra += more
        return [*self.overrides, *more], self.composed


class _Composed:
    """Hands out configurations that were composed before; in another process composes them anew.

    Args:
        loader: composes.
        configs: what it made, by the overrides.
    """

    def __init__(self, loader: ConfigLoader, configs: dict[tuple[str, ...], DictConfig]) -> None:
        self._loader = loader
        self._configs = configs

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> Any:
        """Return a job's configuration, as Hydra's loader does."""
        if (found := self._configs.pop(tuple(sweep_overrides), None)) is not None:
            return found
        return self._loader.load_sweep_config(master_config, sweep_overrides)

    def __getstate__(self) -> dict[str, Any]:
        return {"_loader": self._loader, "_configs": {}}


class RemainingJobs(Launcher):
    """Hands the jobs that are not finished to another launcher; the others keep their results.

    A job is finished if one of the sweep's folders holds a finished run of the same
    configuration, as far as results depend on it. Nothing is launched before all is checked.

    Args:
        launcher: runs the jobs.
        loader: composes their configurations.
        config: the sweep's configuration.
        fixed: the overrides that all jobs have in common; folders are named by the others.
        total: jobs in all, None if they come all at once.
    """

    def __init__(
        self,
        launcher: Launcher,
        loader: ConfigLoader,
        config: DictConfig,
        fixed: Sequence[str],
        total: int | None,
    ) -> None:
        self._launcher = launcher
        self._loader = loader
        self._config = config
        self._fixed = fixed
        self._total = total
        self._root = Path(config.hydra.sweep.dir)
        # A dry run leaves the jobs' own folders alone.
        self._work = self._root / DRY_RUNS if config.trainer.dry_run else self._root
        self._stored = stored_jobs(self._root)
        self.folders: dict[Path, None] = {}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Do nothing: the launcher it hands over to is set up already."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs that are left and return the results of all, None for one that failed.

        Raises:
            UserError: a folder holds a finished run of another configuration, no job reads a
                setting, or two jobs are the same run.
        """
        jobs = [self._plan(overrides) for overrides in job_overrides]
        if initial_job_idx == 0:
            varied = job_overrides[0] if self._total else None
            refuse_unread_in_sweep([job.composed for job in jobs], all_keys(), SCHEMAS, varied)
        unique = {job.stored.folder: job for job in jobs}
        left = [job for job in unique.values() if not job.stored.finished]
        total, done = self._total or len(unique), len(unique) - len(left)
        if initial_job_idx == 0:
            print(self._announcement(total, done), flush=True)
        shown = left if self._config.trainer.dry_run else unique.values()
        self.folders |= dict.fromkeys(job.folder for job in shown)
        if left:
            placed = [job.placed(job.folder.relative_to(self._root), total) for job in left]
            launcher: Any = self._launcher
            launcher.hydra_context = replace(
                launcher.hydra_context,
                config_loader=_Composed(self._loader, {tuple(each): cfg for each, cfg in placed}),
            )
            launcher.launch([each for each, _ in placed], initial_job_idx=initial_job_idx + done)
        return [_returned(read_job(job.folder)) for job in jobs]

    def _plan(self, varied: Sequence[str]) -> _Planned:
        """Compose a job and find its folder: by its configuration, or else by its name."""
        overrides = [*self._fixed, *varied, "trainer.resume=auto"]
        composed = self._loader.load_sweep_config(self._config, overrides)
        wanted = outcome(composed)
        same = [job for job in self._stored if job.outcome == wanted]
        # A finished one first.
        stored = max(same, key=lambda job: job.finished, default=None)
        if stored is None:
            stored = read_job(self._root / folder_name(",".join(varied or self._fixed)))
            if stored.finished:
                raise UserError(self._difference(stored, wanted))
        folder = self._work / stored.folder.name
        return _Planned(overrides, composed, stored, folder)

    def _difference(self, stored: StoredJob, wanted: dict[str, object]) -> str:
        key = next(key for key in wanted if stored.outcome[key] != wanted[key])
        return (
            f"sweep={self._config.sweep}: {stored.folder.name} is finished, with "
            f"{key}={stored.outcome[key]} where it is {wanted[key]} now; choose another sweep=..."
        )

    def _announcement(self, total: int, done: int) -> str:
        """Return how many jobs there are, and how long they take as far as that is known."""
        parts = [f"sweep {self._config.sweep}: {total} job{'s' if total > 1 else ''}"]
        if done and not self._total:
            parts.append(f"{done} done already")
        if done < total and (seconds := seconds_a_job(self._root)):
            rounds = (total - done) / jobs_at_once(self._config.hydra.launcher)
            parts.append(f"about {clock(seconds * rounds)}")
        return " · ".join(parts)


def jobs_at_once(launcher: DictConfig) -> int:
    """Return how many jobs run at the same time with a launcher of this configuration."""
    jobs = int(launcher.n_jobs) if "n_jobs" in launcher else 1
    return jobs if jobs > 0 else os.cpu_count() or 1


def folder_name(overrides: str) -> str:
    """Return a folder's name for a job's overrides: no slash, never too long, always its own."""
    safe = re.sub(r"[^A-Za-z0-9=.,_+-]+", "-", overrides) or "default"
    if len(safe) <= FOLDER_NAME_LENGTH and safe == overrides:
        return safe
    digest = hashlib.sha256(overrides.encode()).hexdigest()[:8]
    return f"{safe[:FOLDER_NAME_LENGTH]}-{digest}"


def _returned(job: StoredJob) -> JobReturn:
    result = JobReturn()
    result.status = JobStatus.COMPLETED
    result.return_value = job.objective if job.finished else None
    return result
