"""Finds runs on disk and reads their records, whatever their status."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bertexp.config import keys
from bertexp.experiment.folder import CONFIG_FILE, EVALUATIONS, recorded
from bertexp.experiment.phases import described, parts
from bertexp.experiment.summary import SUMMARY_FILE, read_summary, status
from bertexp.files import expanded, read_json, read_json_lines
from bertexp.finetune.records import PREFIX, read_records
from bertexp.keys import flattened
from bertexp.metrics import METRICS_FILE, register_rows
from bertexp.unread import unmet_by
from bertexp.validation import UserError, nearest

EXPERIMENTS = ("config", "finetune")
# What Hydra leaves in the folder of a sweep.
SWEEP_FILE = "multirun.yaml"

Line = dict[str, float | None]
Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Record:
    """The record of a run, and its place in a comparison.

    Attributes:
        config: its configuration, flat, with dotted keys.
        summary: its ``summary.json``; empty where there is none.
        history: the lines of its ``metrics.jsonl``; what is not a number there is None.
        status: ``finished``, ``running``, ``interrupted``, ``failed`` or ``killed``.
        written: when it last wrote something, in seconds since 1970.
        encoder: of a fine-tuned run, the seed that its encoder was pre-trained with, or what the
            encoder is where that is not known.
        setting: label of the setting that it is a run of; this and the next two are by
            ``settings.group``.
        drawn_with: the seed of its random draws; intervals are over these.
        pair: what a run of another setting has in common with it where the two are a pair.
        curve, value, missing: by ``budgets.measure``; ``missing`` is why there is no value.
    """

    folder: Path
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    history: Sequence[Line]
    status: str
    error: str | None
    written: float
    encoder: str | None = None
    setting: str = ""
    drawn_with: str = ""
    pair: tuple[str, ...] = ()
    curve: Curve = ()
    value: float | None = None
    missing: str | None = None

    @property
    def seed(self) -> int | None:
        return self.config.get("seed")

    @property
    def name(self) -> str:
        """What trackers call it: the user's name for it, or its id without the hash."""
        identity = str(self.summary.get("tracker_id", self.folder.name))
        return self.config.get("name") or identity.rpartition("-")[0] or identity

    @property
    def task_metrics(self) -> list[str]:
        """Of a fine-tuned run, the metrics of its task; the first one decides."""
        names = self.config.get("finetune.metrics") or []
        return [f"eval/{name}" for name in ([names] if isinstance(names, str) else names)]

    @property
    def sweep(self) -> Path | None:
        parent = self.folder.parent
        return parent if (parent / SWEEP_FILE).is_file() else None

    @property
    def metrics(self) -> dict[str, float]:
        """What it was evaluated on at its end; of an unfinished run, the last time."""
        lines = [line for line in self.history if "eval/loss" in line]
        found = self.summary.get("metrics") or (lines[-1] if lines else {})
        return {
            key: value
            for key, value in found.items()
            if key.startswith(("eval/", PREFIX)) and value is not None
        }


def read_runs(paths: Sequence[str | Path]) -> list[Record]:
    """Return the runs in and below ``paths``, in the order of their folders' names.

    Other files are skipped: a pattern may match a comparison's own files.

    Args:
        paths: folders of runs or of sweeps, or patterns of such (``outputs/sweeps/rate-*``).

    Raises:
        UserError: a path does not exist, there is no run, or a run's record cannot be read.
    """
    found: dict[Path, Path] = {}
    for start in (start for path in paths for start in _expand(path)):
        for folder in _run_folders(start):
            found.setdefault(folder.resolve(), folder)
    if not found:
        raise UserError(f"{', '.join(map(str, paths))}: no run is there, nor below it.")
    return [read_run(folder) for folder in found.values()]


def read_run(folder: Path) -> Record:
    """Return a folder's run; raises ``UserError`` if its record cannot be read."""
    summary = read_summary(folder)
    history = read_json_lines(folder / METRICS_FILE)
    register_rows(summary.get("metric_rows", {}))
    finetuned = read_records(folder)
    if finetuned["metrics"] and history:
        # The results of fine-tuning its last model are beside its own evaluation.
        history[-1] = {**history[-1], **finetuned["metrics"]}
        prints = summary.get("fingerprints", {})
        bank = {**prints.get("bank", {}), **finetuned["bank"]}
        more = {key: {**summary.get(key, {}), **finetuned[key]} for key in ("metrics", "answered")}
        summary = {**summary, **more, "fingerprints": {**prints, "bank": bank}}
    files = [folder / name for name in (SUMMARY_FILE, METRICS_FILE, CONFIG_FILE)]
    written = max(file.stat().st_mtime for file in files if file.is_file())
    how = status(folder, summary)
    error = {
        "killed": "its process is gone",
        "running": None if summary else "has no summary.json yet",
    }.get(how, summary.get("error"))
    return Record(
        folder=folder,
        config=_read_config(folder),
        summary=summary,
        history=history,
        status=how,
        error=error,
        written=written,
        encoder=_encoder(summary.get("parent")),
    )


def evaluated(runs: Sequence[Record], name: str) -> list[Record]:
    """Return the runs with the metrics of an evaluation that ``bertexp.evaluate`` has saved.

    A run without it has none.

    Raises:
        UserError: no run has it, or it cannot be read.
    """
    known = sorted({p.stem for run in runs for p in (run.folder / EVALUATIONS).glob("*.json")})
    if name not in known:
        there = f"There are {', '.join(known)}." if known else "There is none."
        hint = nearest(name, known) if known else ""
        raise UserError(f"--evaluation {name}: no run has it.{hint} {there}")
    found = []
    for run in runs:
        record = read_json(run.folder / EVALUATIONS / f"{name}.json")
        register_rows(record.get("metric_rows", {}))
        summary = {**run.summary, "answered": {}, "probes": [], "metrics": {}, **record}
        history = [record["metrics"]] if record else []
        found.append(replace(run, summary=summary, history=history))
    return found


def is_run(folder: Path) -> bool:
    """Return whether a folder is that of an experiment, its summary written or not yet."""
    from omegaconf import OmegaConf

    is_there = (folder / CONFIG_FILE).is_file()
    if not is_there or (folder / SUMMARY_FILE).is_file():
        return is_there
    # Other commands, such as the benchmark, leave a configuration too; a file may be empty still.
    hydra = recorded(folder, "hydra") or OmegaConf.create()
    return OmegaConf.select(hydra, "hydra.job.config_name") in EXPERIMENTS


def _expand(path: str | Path) -> list[Path]:
    found = expanded(path)
    if found.exists():
        return [found]
    if matches := sorted(glob.glob(str(found), recursive=True)):
        return [Path(match) for match in matches]
    raise UserError(f"{path}: no such folder.")


def _run_folders(start: Path) -> Iterator[Path]:
    for parent, folders, _ in os.walk(start):
        if is_run(Path(parent)):
            folders.clear()  # what is in a run is its own
            yield Path(parent)
        folders.sort()


def _read_config(folder: Path) -> dict[str, Any]:
    from omegaconf import OmegaConf

    # A run's metrics have their rows in its summary: its plugins need not be there any more.
    config = recorded(folder, "config", with_plugins=False)
    values: Any = OmegaConf.to_container(config, resolve=True) if config else {}
    if values.get("phases"):
        values["phases"] = described(values["phases"], values)
    # A key of the schema may have shares for its value, which belong together.
    found = flattened(values, {*keys()})
    unmet = unmet_by(parts(config)) if config else []
    return {key: value for key, value in found.items() if not any(c.is_about(key) for c in unmet)}


def _encoder(parent: Mapping[str, str | None] | None) -> str | None:
    if parent is None:
        return None
    seed = _read_config(Path(parent["run"])).get("seed") if parent["run"] else None
    return parent["model"] if seed is None else str(seed)
