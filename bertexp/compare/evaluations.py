"""Runs by what ``bertexp.evaluate`` has saved of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bertexp.compare.runs import Run, read_record
from bertexp.validation import UserError, nearest

FOLDER = "evaluations"


def evaluated(runs: Sequence[Run], name: str) -> list[Run]:
    """Return the runs with the figures of a saved evaluation; those without it have none.

    Raises:
        UserError: no run has it, or it cannot be read.
    """
    saved = [run.folder / FOLDER for run in runs]
    if not any((folder / f"{name}.json").is_file() for folder in saved):
        known = sorted({path.stem for folder in saved for path in folder.glob("*.json")})
        there = f"There are {', '.join(known)}." if known else "There is none."
        hint = nearest(name, known) if known else ""
        raise UserError(f"--evaluation {name}: no run has it.{hint} {there}")
    found = []
    for run, folder in zip(runs, saved, strict=True):
        record = read_record(folder / f"{name}.json")
        summary = {**run.summary, "answered": {}, "probes": [], "metrics": {}, **record}
        history = [record["metrics"]] if record else []
        found.append(replace(run, summary=summary, history=history))
    return found
