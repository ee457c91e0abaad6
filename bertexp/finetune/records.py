"""Results of fine-tuning, recorded in the pre-training run's folder for comparisons."""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertexp.experiment.summary import read_summary
from bertexp.files import read_json, write_json
from bertexp.metrics import cost
from bertexp.validation import UserError

if TYPE_CHECKING:
    from bertexp.experiment.saved import Saved
    from bertexp.finetune.config import FinetuneConfig
    from bertexp.finetune.labelled import LabelledData

FOLDER = "finetuned"
PREFIX = "finetune/"
# The other settings of fine-tuning may be searched over.
SEARCHED = ("optimizer", "scheduler", "trainer", "finetune")


def write_record(
    config: FinetuneConfig,
    saved: Saved,
    folder: Path,
    metrics: Mapping[str, float],
    data: LabelledData,
) -> None:
    """Record the metrics of a run's last model, but not of checkpoints and other models.

    ``saved`` was fine-tuned by the run in ``folder``.
    """
    from bertexp.experiment.saved import MODEL

    if saved.run is None or Path(saved.source) != saved.run / MODEL:
        return
    known = asdict(config)
    record = {
        "folder": str(folder.resolve()),
        "task": config.finetune.name,
        "seed": config.seed,
        "settings": {part: known[part] for part in SEARCHED},
        "data": data.fingerprint,
        "answered": data.answered,
        "metrics": metrics,
    }
    write_json(saved.run / FOLDER / f"{read_summary(folder)['tracker_id']}.json", record)


def read_records(run: Path) -> dict[str, Any]:
    """Return the metrics of a run's model on every task, in the form of a summary.

    They are the medians over the seeds of the setting with the best median, as for GLUE (Devlin et
    al. 2019, section 4.1); it is chosen by the same data. So a run has one value, however many
    seeds it was fine-tuned with.

    Returns:
        ``metrics`` named ``finetune/<task>/<metric>``; and by these names, in ``bank`` the
        fingerprint of the validation data and in ``answered`` the number of its examples.
    """
    known: dict[str, Any] = {"metrics": {}, "bank": {}, "answered": {}}
    for task, settings in _by_setting(run).items():
        best = min((list(seeds.values()) for seeds in settings.values()), key=_median_cost)
        for name in best[0]["metrics"]:
            values = [record["metrics"][name] for record in best]
            if None not in values:
                full = PREFIX + f"{task}/{name.removeprefix('eval/')}"
                known["metrics"][full] = statistics.median(values)
                known["bank"][full] = best[0]["data"]
                known["answered"][full] = best[0]["answered"].get(name)
    return known


def _by_setting(run: Path) -> dict[str, Any]:
    """Return a run's records by task, setting and seed, all of a task on the same data."""
    by_task: dict[str, Any] = defaultdict(lambda: defaultdict(dict))
    data: dict[str, str] = {}
    # Of repeated runs the newest counts.
    for path in sorted((run / FOLDER).glob("*.json"), key=lambda path: path.stat().st_mtime_ns):
        found = read_json(path)
        try:
            setting = json.dumps(found["settings"], sort_keys=True)
            task = found["task"]
            if data.setdefault(task, found["data"]) != found["data"]:
                by_task[task].clear()
                data[task] = found["data"]
            kept = {name: found[name] for name in ("settings", "data", "metrics", "answered")}
            by_task[task][setting][found["seed"]] = kept
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: is damaged; remove it.") from error
    return by_task


def _median_cost(records: list[dict[str, Any]]) -> float:
    name = f"eval/{records[0]['settings']['finetune']['metrics'][0]}"
    values = [record["metrics"].get(name) for record in records]
    return math.inf if None in values else cost(name, statistics.median(values))
