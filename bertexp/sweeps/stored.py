"""A sweep's folder: its lock, and its jobs with configuration, status and result."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from bertexp import locks
from bertexp.config import changes_outcome
from bertexp.experiment.folder import CONFIG_FILE, recorded, remove_empty_parents
from bertexp.experiment.plan import PLANNED, Plan
from bertexp.experiment.rates import with_rate
from bertexp.experiment.summary import LOCK_FILE, read_summary, status
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
