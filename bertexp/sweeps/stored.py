"""A sweep's folder: its lock, its jobs with status and result, and the report at its end."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from bertexp import locks
from bertexp.config import changes_outcome
from bertexp.experiment.folder import CONFIG_FILE, recorded, remove_empty_parents
from bertexp.experiment.invocation import jobs_at_once
from bertexp.experiment.rates import with_rate
from bertexp.experiment.summary import LOCK_FILE, PLANNED, Plan, read_summary, status
from bertexp.validation import UserError

# A job's folder is named after its overrides, up to this many characters.
FOLDER_NAME_LENGTH = 120
# The folder of a dry run's jobs, in the sweep's folder.
DRY_RUNS = ".dry_runs"


@dataclass(frozen=True)
class StoredJob:
    """A job, as it is in its folder.

    Attributes:
        status: ``finished``, ``failed``, ``interrupted``, ``killed``, ``running``, or None if it
            wrote no summary.
        plan: its expected cost, if it was a dry run.
    """

    folder: Path
    status: str | None
    error: str | None
    objective: float | None
    plan: Plan | None

    @property
    def config(self) -> DictConfig:
        return recorded(self.folder, "config") or OmegaConf.create()

    @property
    def finished(self) -> bool:
        return self.status == "finished"


def outcome(config: DictConfig, keys: Iterable[str]) -> dict[str, object]:
    """Return the values of the keys that a run's result depends on, by dotted key."""
    with contextlib.suppress(UserError):  # its job will raise it too
        config = with_rate(config)
    return {key: OmegaConf.select(config, key) for key in keys if changes_outcome(key)}


def read_job(folder: Path) -> StoredJob:
    """Return the job of a folder, which may be empty."""
    summary = read_summary(folder)
    return StoredJob(
        folder=folder,
        status=status(folder, summary) if summary else None,
        error=summary.get("error"),
        objective=summary.get("metrics", {}).get("eval/loss"),
        plan=Plan(**summary[PLANNED]) if PLANNED in summary else None,
    )


def stored_jobs(sweep_folder: Path) -> list[StoredJob]:
    paths = sorted(sweep_folder.glob(f"*/{CONFIG_FILE}"))
    return [read_job(path.parents[1]) for path in paths]


def folder_name(overrides: str) -> str:
    """Return a folder's name for a job's overrides: without slashes, short and unique."""
    safe = re.sub(r"[^A-Za-z0-9=.,_+-]+", "-", overrides) or "default"
    if len(safe) <= FOLDER_NAME_LENGTH and safe == overrides:
        return safe
    digest = hashlib.sha256(overrides.encode()).hexdigest()[:8]
    return f"{safe[:FOLDER_NAME_LENGTH]}-{digest}"


@contextmanager
def only_sweep(folder: Path, name: str) -> Iterator[None]:
    """Lock a sweep's folder; the lock ends with this process, however it ends.

    Raises:
        UserError: another sweep uses it, or a job that has outlived its killed sweep.
    """
    running = f"sweep={name}: is running already, in another process"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = locks.acquire(folder / LOCK_FILE, seconds=0)
    except locks.Timeout as error:
        raise UserError(f"{running}{locks.holder(error)}.") from error
    with lock:
        for job in folder.glob(f"*/{LOCK_FILE}"):
            if locks.is_held(job):
                raise UserError(f"{running}: {job.parent}.")
        try:
            yield
        finally:
            if all(path.name.startswith(LOCK_FILE) for path in folder.iterdir()):
                # Because of a mistake before the first job, or after a dry run.
                shutil.rmtree(folder, ignore_errors=True)
                remove_empty_parents(folder)


def clear_dry_run(root: Path, is_new: bool) -> None:
    """Remove a dry run's files from a sweep's folder; everything if it created the folder."""
    for path in root.iterdir():
        if path.name == DRY_RUNS or (is_new and not path.name.startswith(LOCK_FILE)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def report(
    config: DictConfig, jobs: Sequence[StoredJob], compare: Callable[[DictConfig], None]
) -> None:
    """Compare the runs of a sweep, or show their expected cost; then list the jobs that failed.

    Args:
        jobs: all its jobs; in a dry run those that are left.

    Raises:
        UserError: some jobs failed.
    """
    if config.trainer.dry_run:
        _show_costs(jobs, jobs_at_once(config.hydra.launcher))
        _fail([job for job in jobs if not job.plan], len(jobs))
        return
    if any(job.finished for job in jobs):
        try:
            compare(config)
        except Exception as error:  # in any case, the failed jobs must be listed
            print(f"The comparison failed: {error}", file=sys.stderr)
    again = f"; the same command with sweep={config.sweep} tries them again"
    _fail([job for job in jobs if not job.finished], len(jobs), again)


def _show_costs(jobs: Sequence[StoredJob], at_once: int) -> None:
    from bertexp.console import show
    from bertexp.experiment.dry_run import sweep_costs

    if plans := [(job.folder.name, job.plan) for job in jobs if job.plan]:
        show(sweep_costs(plans, at_once))


def _fail(failed: Sequence[StoredJob], total: int, hint: str = "") -> None:
    """List failed jobs by their reason, which many may share."""
    reasons: dict[str, list[Path]] = {}
    for job in failed:
        reasons.setdefault(_reason(job), []).append(job.folder)
    for reason, folders in reasons.items():
        more = len(folders) - 1
        others = f" and {more} other{'s' if more > 1 else ''}" if more else ""
        print(f"failed: {folders[0]}{others}: {reason}", flush=True)
    if failed:
        first = _reason(failed[0]).rstrip(".")
        raise UserError(f"{len(failed)} of {total} jobs failed{hint} (the first: {first}).")


def _reason(job: StoredJob) -> str:
    if job.status == "failed" and job.error:
        return job.error.removeprefix(f"{UserError.__name__}: ").splitlines()[0]
    return "it was interrupted" if job.status == "interrupted" else "its process died"
