"""The trackers that a run passes to Accelerate: its own record, and the user's choice."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import math
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from accelerate.tracking import GeneralTracker, TensorBoardTracker, TrackioTracker, on_main_process

from bertexp.console import short_path
from bertexp.files import read_json_lines, sync, write_text
from bertexp.keys import flattened
from bertexp.metrics import METRICS_FILE
from bertexp.tracking.base import Metrics, SafeTracker
from bertexp.tracking.config import TrackerConfig
from bertexp.tracking.identity import RunIdentity, new_id, wandb_setting
from bertexp.validation import UserError

logger = logging.getLogger(__name__)

# The values of WANDB_DISABLED that Hugging Face's Trainer takes as true.
_TRUE = ("1", "on", "yes", "true")


class JsonLinesTracker(GeneralTracker):
    """The run's own record: one JSON object a line, with ``step`` and the metrics by name.

    NaN and infinity become ``null``, as JSON has neither. A step may have several lines, one for
    each call of ``log``. The file is not kept open, so that logged lines are on disk. Unlike other
    trackers this one raises ``OSError``: a run without a record is lost.
    """

    name = "jsonl"
    requires_logging_directory = False

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._path = folder / METRICS_FILE

    @property
    def tracker(self) -> Path:
        return self._path

    @on_main_process
    def log(self, values: Metrics, step: int | None = None) -> None:
        assert step is not None, "a line without a step"
        finite = {k: v if math.isfinite(v) else None for k, v in values.items()}
        line = json.dumps({"step": step, **finite}, allow_nan=False)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def lines(self) -> list[dict[str, Any]]:
        """Return all logged lines, including those before a resume."""
        return read_json_lines(self._path)

    def position(self) -> int:
        """Force the lines so far to disk; returns their size in bytes."""
        if not self._path.exists():
            return 0
        sync(self._path)
        return self._path.stat().st_size

    @on_main_process
    def rewind(self, position: int) -> None:
        """Drop what was logged after ``position``, where a run resumes."""
        found = self._path.stat().st_size if self._path.exists() else 0
        if found < position:
            logger.warning("%s: lines are missing that were logged.", self._path)
        elif found > position:
            os.truncate(self._path, position)


class TensorBoardFiles(SafeTracker):
    """TensorBoard's event files in the run's folder, with the configuration flattened."""

    name = "tensorboard"

    def __init__(self, folder: Path, resolved_config: dict[str, Any]) -> None:
        self._folder = folder / "tensorboard"
        self._hyperparameters = {
            key: value if isinstance(value, int | float | str) else str(value)
            for key, value in flattened(resolved_config).items()
        }
        super().__init__(TensorBoardTracker(self._folder.name, folder))

    def _start(self) -> None:
        super()._start()
        # Accelerate would put them into a second run, named after the time.
        self._inner.writer.add_hparams(self._hyperparameters, {}, run_name=".")
        self.location = shlex.join(["tensorboard", "--logdir", str(short_path(self._folder))])


class TrackioRun(SafeTracker):
    """A run in trackio's local database, without trackio's output."""

    name = "trackio"

    def __init__(
        self, config: TrackerConfig, identity: RunIdentity, resolved_config: dict[str, Any]
    ) -> None:
        self._project = config.project
        super().__init__(
            TrackioTracker(
                config.project,
                name=identity.id,
                group=identity.group,
                config=resolved_config,
                resume="allow",
                embed=False,
            )
        )

    def _start(self) -> None:
        with _quiet():
            super()._start()
        self.location = shlex.join(["trackio", "show", "--project", self._project])

    def _finish(self, failed: bool) -> None:
        with _quiet():
            super()._finish(failed)


def _quiet() -> contextlib.redirect_stdout[TextIO]:
    return contextlib.redirect_stdout(io.StringIO())


def open_tracker(
    config: TrackerConfig,
    identity: RunIdentity,
    folder: Path,
    wandb_root: Path,
    resolved_config: dict[str, Any],
) -> SafeTracker | None:
    """Return the user's tracker for ``Accelerator(log_with=[...])``, or ``None``.

    ``Accelerator.init_trackers`` opens it, on the main process.

    Raises:
        UserError: the tracker's package is not installed.
    """
    if config.name == "none" or config.mode == "disabled":
        return None
    if config.mode == "auto" and (wandb_setting(config, "DISABLED") or "").lower() in _TRUE:
        return None
    if importlib.util.find_spec(config.name) is None:
        raise UserError(
            f"tracker={config.name}: the package is missing, pip install 'bertexp[{config.name}]'."
        )
    if config.name == "tensorboard":
        return TensorBoardFiles(folder, resolved_config)
    if config.name == "trackio":
        return TrackioRun(config, identity, resolved_config)
    from bertexp.tracking.weights_and_biases import WandbTracker

    return WandbTracker(config, identity, wandb_root, resolved_config)


def open_beside(
    config: TrackerConfig,
    job_type: str,
    about: str,
    *,
    group: str | None = None,
    facts: Mapping[str, Any] | None = None,
    id_file: Path | None = None,
) -> SafeTracker | None:
    """Return a W&B run for tables and pictures about other runs, beside these; started.

    Online and offline are chosen as for the runs themselves, and failures do not end the program.

    Args:
        facts: what W&B shows as the run's configuration.
        id_file: keeps the run's id, so that the next call with it updates the same run.

    Returns:
        None for other trackers, which do not show both.
    """
    if config.name != "wandb":
        return None
    label = f"{job_type}-{about}"
    known = id_file and id_file.exists() and id_file.read_text(encoding="utf-8")
    run_id = known or new_id(label)
    identity = RunIdentity(run_id, label, group, (job_type, *config.tags), job_type)
    root = Path("outputs")
    tracker = open_tracker(config, identity, root, root.absolute(), dict(facts or {}))
    if tracker:
        if id_file:
            write_text(id_file, run_id)
        tracker.start()
    return tracker
