"""A table and pictures as a W&B run of their own, beside the runs that they are about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bertexp.tracking.config import TrackerConfig
from bertexp.tracking.identity import RunIdentity, new_id
from bertexp.tracking.trackers import open_tracker


def log_beside(
    config: TrackerConfig,
    *,
    job_type: str,
    about: str,
    section: str,
    pictures: Sequence[Path],
    root: Path,
    group: str | None = None,
    table: tuple[Sequence[str], Sequence[Sequence[Any]]] | None = None,
) -> str | None:
    """Log a table and pictures as a run of their own.

    Only W&B shows both; with any other tracker, and with none, nothing is done. Online and
    offline are chosen as for the runs themselves, and no failure ends the program.

    Args:
        config: the tracker of the runs that they are about.
        job_type: what kind of work made them: ``compare``, ``inspect``.
        about: what they are about, for the run's name.
        section: what they are shown under.
        pictures: PNG files and HTML pages.
        root: the folder of W&B's own, ``outputs``.
        group: the group of the runs that they are about.
        table: its head, and its rows of numbers, text and None.

    Returns:
        Where to look: an address, or commands, one a line; None if nothing was logged.

    Raises:
        UserError: ``tracker.mode=online`` and W&B cannot be had.
    """
    if config.name != "wandb":
        return None
    label = f"{job_type}-{about}"
    identity = RunIdentity(new_id(label), label, group, (job_type, *config.tags), job_type)
    tracker = open_tracker(config, identity, root, root.absolute(), {})
    if tracker is None:
        return None
    tracker.start()
    if table:
        columns, rows = table
        tracker.log_rows(f"{section}/table", list(columns), [list(row) for row in rows])
    tracker.log_pictures(section, pictures)
    tracker.finish()
    return tracker.location
