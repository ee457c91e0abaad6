"""What a sweep's folder already holds: jobs with their configuration, state and result."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from bertexp.config import Config, changes_outcome, keys
from bertexp.experiment.folder import recorded
from bertexp.experiment.plan import PLANNED, Plan
from bertexp.experiment.rates import with_rate
from bertexp.experiment.summary import read_summary, status
from bertexp.finetune.config import FinetuneConfig
from bertexp.validation import UserError

# Where Hydra keeps what it composed for a run.
CONFIG_FILE = Path(".hydra") / "config.yaml"
# A job's folder is named after its overrides, up to this many characters.
FOLDER_NAME_LENGTH = 120
# A run has those of one command; the others are missing in all that it is held against.
SCHEMAS = (Config, FinetuneConfig)


@dataclass(frozen=True)
class StoredJob:
    """A job as its folder tells it.

    Attributes:
        folder: the job's folder.
        status: ``finished``, ``failed``, ``interrupted``, ``killed``, ``running``, or None where
            it did not come so far as to say.
        error: why it failed, or None.
        objective: the final ``eval/loss``, or None.
        plan: what it would take, if it was a dry run.
        outcome: what its result depends on, see ``outcome``.
    """

    folder: Path
    status: str | None
    error: str | None
    objective: float | None
    plan: Plan | None
    outcome: Mapping[str, object]

    @property
    def finished(self) -> bool:
        """Whether it has a result."""
        return self.status == "finished"


def all_keys() -> list[str]:
    """Return every key that a job of a sweep may have."""
    return [*dict.fromkeys(key for schema in SCHEMAS for key in keys(schema))]


def outcome(config: DictConfig) -> dict[str, object]:
    """Return the values of all keys that a run's result depends on, by dotted key."""
    with contextlib.suppress(UserError):  # which its job will have
        config = with_rate(config)
    return {key: OmegaConf.select(config, key) for key in all_keys() if changes_outcome(key)}


def read_job(folder: Path) -> StoredJob:
    """Return the job of a folder, which may hold nothing yet."""
    summary = read_summary(folder)
    config = recorded(folder, "config") or OmegaConf.create()
    return StoredJob(
        folder=folder,
        status=status(folder, summary) if summary else None,
        error=summary.get("error"),
        objective=summary.get("metrics", {}).get("eval/loss"),
        plan=Plan(**summary[PLANNED]) if PLANNED in summary else None,
        outcome=outcome(config),
    )


def stored_jobs(sweep_folder: Path) -> list[StoredJob]:
    """Return the jobs in a sweep's folder, in the order of their names."""
    paths = sorted(sweep_folder.glob(f"*/{CONFIG_FILE}"))
    return [read_job(path.parents[1]) for path in paths]


def folder_name(overrides: str) -> str:
    """Return a folder's name for a job's overrides: no slash, never too long, always its own."""
    safe = re.sub(r"[^A-Za-z0-9=.,_+-]+", "-", overrides) or "default"
    if len(safe) <= FOLDER_NAME_LENGTH and safe == overrides:
        return safe
    digest = hashlib.sha256(overrides.encode()).hexdigest()[:8]
    return f"{safe[:FOLDER_NAME_LENGTH]}-{digest}"
