"""A finished comparison as a run of its own, beside the runs it compares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bertexp.tracking.beside import log_beside
from bertexp.tracking.config import TrackerConfig


def log_comparison(
    config: TrackerConfig,
    group: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    pictures: Sequence[Path],
    root: Path,
) -> str | None:
    """Log a comparison's table and pictures as a run of job type ``compare``, see ``log_beside``.

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
    return log_beside(
        config,
        job_type="compare",
        about=group,
        section="comparison",
        pictures=pictures,
        root=root,
        group=group,
        table=(columns, rows),
    )
