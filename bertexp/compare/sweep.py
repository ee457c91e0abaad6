"""The comparison that a sweep ends with."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from bertexp.compare.report import compare_runs
from bertexp.compare.results import Comparison
from bertexp.compare.runs import read_runs
from bertexp.compare.wording import headline
from bertexp.config import parse
from bertexp.finetune.records import FOLDER, PREFIX
from bertexp.tracking.config import TrackerConfig
from bertexp.tracking.identity import group_of
from bertexp.tracking.trackers import log_beside

# In a sweep's folder: the id of its comparison in W&B.
ID_FILE = ".compare_id"


def compare_sweep(config: DictConfig) -> None:
    """Compare the runs of a sweep, and track the comparison as they were tracked."""
    folder = Path(config.hydra.sweep.dir)
    comparison = compare_runs(read_runs([folder]), folder, metric=sweep_metric(config))
    tracker = parse(config.tracker, TrackerConfig)
    group = group_of(tracker, str(config.sweep)) or ""
    location = log_beside(
        tracker,
        job_type="compare",
        about=group,
        section="comparison",
        pictures=sorted(folder.glob("*.png")),
        root=Path("outputs"),
        group=group,
        table=setting_rows(comparison),
        facts=_facts(comparison),
        id_file=folder / ID_FILE,
    )
    if location:
        # Offline, one command uploads the jobs as well.
        print("", re.sub(r"(wandb sync \S*/offline-run-)\S+", r"\1*", location), sep="\n")
    if fine_tuned := _fine_tuned(comparison):
        where = shlex.join(sorted({str(Path(run).parent) for run in fine_tuned}))
        metric = f"{PREFIX}{config.finetune.name}/{_finetune_metric(config)}"
        print(
            "",
            "To compare what was fine-tuned by how it was pre-trained:",
            f"python -m bertexp.compare {where} --metric {metric}",
            sep="\n",
        )


def sweep_metric(config: DictConfig) -> str | None:
    """Return what a sweep's runs are compared by; None for what they have in common."""
    chosen = OmegaConf.select(config, "hydra.sweeper.metric")
    own = _finetune_metric(config)
    return chosen or (f"eval/{own}" if own else None)


def _finetune_metric(config: DictConfig) -> str | None:
    """Return the metric of the task, by which a fine-tuned model is judged."""
    metrics = OmegaConf.select(config, "finetune.metrics")
    return metrics if isinstance(metrics, str) else metrics[0] if metrics else None


def _fine_tuned(comparison: Comparison) -> list[str]:
    named = (setting.values.get("run") for setting in comparison.settings)
    return [str(run) for run in named if run and (Path(str(run)) / FOLDER).is_dir()]


def _facts(comparison: Comparison) -> dict[str, object]:
    """Return what the rows are about, and the answer."""
    own = ("metric", "lower_is_better", "at", "budget", "baseline", "margin", "warnings")
    return {"answer": headline(comparison)} | {name: getattr(comparison, name) for name in own}


def setting_rows(comparison: Comparison) -> tuple[list[str], list[list[object]]]:
    """Return the columns, and a row a setting: its difference to the baseline, its abilities."""
    abilities = comparison.by_metric
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
