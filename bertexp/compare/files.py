"""The comparison as files: a table for spreadsheets, and everything for programs."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from pathlib import Path

from bertexp.compare.abilities import by_metric
from bertexp.compare.results import Comparison
from bertexp.console import value_text
from bertexp.experiment.summary import write_json
from bertexp.files import write_text

CSV_FILE = "compare.csv"
JSON_FILE = "compare.json"
# Raised whenever what compare.json means changes.
FORMAT = 2


def write_json_file(comparison: Comparison, output: Path) -> Path:
    """Write ``compare.json``: the fields of ``Comparison``, with the ``format`` they are in."""
    path = output / JSON_FILE
    write_json(path, {"format": FORMAT, **asdict(comparison)})
    return path


def write_csv_file(comparison: Comparison, output: Path) -> Path:
    """Write ``compare.csv``: a row a run, with what was swept and all it was evaluated on."""
    values = {setting.label: setting.values for setting in comparison.settings}
    metrics = list(dict.fromkeys(name for run in comparison.runs for name in run.metrics))
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    head = [*comparison.keys, "seed", "status", "error", "value", *metrics, "name", "folder"]
    writer.writerow(head)
    for run in comparison.runs:
        known = values.get(run.setting, {})
        swept = [value_text(known[key]) if key in known else "" for key in comparison.keys]
        measured = [run.metrics.get(name) for name in metrics]
        writer.writerow(
            [*swept, run.seed, run.status, run.error, run.value, *measured, run.name, run.folder]
        )
    path = output / CSV_FILE
    write_text(path, rows.getvalue())
    return path


def setting_rows(comparison: Comparison) -> tuple[list[str], list[list[object]]]:
    """Return a row a setting, and what the columns are.

    A setting stands beside its difference to the baseline, and what its encoders can do.
    """
    abilities = by_metric(comparison.abilities)
    differences = {difference.setting: difference for difference in comparison.differences}
    own = ("label", "runs", "seeds", "mean", "low", "high")
    paired = ("mean", "low", "high", "p_corrected", "verdict", "seeds_needed")
    columns = [*own, *(f"difference_{name}" for name in paired), *abilities]
    rows = [
        [getattr(setting, name) for name in own]
        + [getattr(differences.get(setting.label), name, None) for name in paired]
        + [getattr(known.get(setting.label), "mean", None) for known in abilities.values()]
        for setting in comparison.settings
    ]
    return columns, rows
