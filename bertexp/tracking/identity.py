"""A run's name, so that people can tell runs apart and a resumed run is the same run."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from bertexp.tracking.config import TAG_LENGTH, TrackerConfig

_ID_LENGTH = 128
_PLAIN_STRATEGY = "token"


@dataclass(frozen=True)
class RunIdentity:
    """Who a run is.

    Attributes:
        id: unique and telling, such as ``mlm-p0.40-s1-3fa9c1d2``; the same after a resume.
        name: what to call it: the user's name for it, or the id without its hash.
        group: the runs it belongs with.
        tags: what to find it by.
        job_type: what kind of work it does.
    """

    id: str
    name: str
    group: str | None
    tags: tuple[str, ...]
    job_type: str


def identify(
    config: TrackerConfig,
    *,
    task: str,
    model: str,
    masking_prob: float | None,
    masking_strategy: str | None,
    seed: int,
    folder: Path,
    sweep: str | None,
    name: str | None = None,
    job_type: str = "pretrain",
) -> RunIdentity:
    """Make a run's identity from what it does and where.

    Args:
        config: the user's own group and tags.
        task: name of the task.
        model: name of the model.
        masking_prob: share of tokens predicted, or ``None`` for a task without masking.
        masking_strategy: name of the strategy, or ``None`` for a task without masking.
        seed: the run's seed.
        folder: the run's folder; its absolute path makes the id unique.
        sweep: name of the sweep, which is the group unless the user chose another.
        name: the user's name for the run.
        job_type: what kind of work it does.
    """
    parts = [task]
    if masking_strategy not in (None, _PLAIN_STRATEGY):
        parts.append(masking_strategy)
    if masking_prob is not None:
        parts.append(f"p{_rate(masking_prob)}")
    label = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join([*parts, f"s{seed}"]))
    digest = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:8]
    tags = [tag[:TAG_LENGTH] for tag in (task, model, masking_strategy, *config.tags) if tag]
    return RunIdentity(
        id=f"{label[: _ID_LENGTH - len(digest) - 1]}-{digest}",
        name=name or label,
        group=config.group or sweep,
        tags=tuple(dict.fromkeys(tags)),
        job_type=job_type,
    )


def _rate(prob: float) -> str:
    """Return ``0.40`` for 0.4, and as many digits as it takes for 0.125."""
    return max(f"{prob:.2f}", f"{prob:g}", key=len)
