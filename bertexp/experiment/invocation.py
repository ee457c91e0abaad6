"""How a run was started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bertexp.experiment.resuming import Resume
from bertexp.experiment.signals import Signals
from bertexp.sweeps.job import SweepJob


@dataclass(frozen=True)
class Invocation:
    """Where a run is, where it begins, and who started it.

    Attributes:
        folder: the run's folder, which exists.
        resume: the checkpoint to resume from, if there is one.
        signals: what may ask it to stop.
        job: the sweep's job that this is, or None. It prints its lines instead of a report.
    """

    folder: Path
    resume: Resume
    signals: Signals
    job: SweepJob | None
