"""How a run was started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bertexp.experiment.resuming import Beginning
from bertexp.experiment.signals import Signals
from bertexp.sweeps.job import SweepJob


@dataclass(frozen=True)
class Invocation:
    """Where a run is, where it begins, and who started it.

    Attributes:
        folder: the run's folder, which exists.
        beginning: the checkpoint to go on from, if there is one.
        signals: what may ask it to stop.
        job: the sweep's job that this is, or None. Its lines are said instead of a report.
        module: the command that started it, after ``python -m``.
    """

    folder: Path
    beginning: Beginning
    signals: Signals
    job: SweepJob | None
    module: str = "bertexp"
