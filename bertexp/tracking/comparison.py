"""A finished comparison as a run of its own, beside the runs it compares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bertexp.tracking.config import TrackerConfig
from bertexp.tracking.identity import RunIdentity, new_id
from bertexp.tracking.trackers import open_tracker

JOB_TYPE = "compare"


def log_comparison(
    config: TrackerConfig,
    group: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    pictures: Sequence[Path],
    root: Path,
) -> str | None:
    """Log a comparison's table and pictures as a run of job type ``compare``.

    Only W&B shows both; with any other tracker, and with none, nothing is done. Online and
    offline are chosen as for the runs themselves, and no failure ends the program.

    Args:
        config: the tracker of the runs that are compared.
        group: their group.
        columns: the table's head.
        rows: its rows: numbers, text and None.
        pictures: PNG files.
        root: the folder of W&B's own, ``outputs``.

    Returns:
        Where to look: an address, or commands, one a line; None if nothing was logged.

    Raises:
        UserError: ``tracker.mode=online`` and W&B cannot be had.
    """
    if config.name != "wandb":
        return None
    label = f"{JOB_TYPE}-{group}"
    identity = RunIdentity(new_id(label), label, group, (JOB_TYPE, *config.tags), JOB_TYPE)
    tracker = open_tracker(config, identity, root, root.absolute(), {})
    if tracker is None:
        return None
    tracker.start()
    tracker.log_rows("comparison/table", list(columns), [list(row) for row in rows])
    tracker.log_pictures("comparison", pictures)
    tracker.finish()
    return tracker.location
