"""The comparison at a sweep's end, and after each round of ``hydra/sweeper=resolve``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from bertexp.compare import anytime, wording
from bertexp.compare.comparison import compare
from bertexp.compare.report import compare_runs
from bertexp.compare.results import Difference, Results
from bertexp.compare.runs import read_run, read_runs
from bertexp.compare.statistics import ALPHA
from bertexp.compare.verdicts import RESOLVE_FILE
from bertexp.config import parse
from bertexp.console import number, plural, value_text
from bertexp.files import read_json, write_json
from bertexp.finetune.records import FOLDER, PREFIX
from bertexp.tracking.config import TrackerConfig
from bertexp.tracking.identity import group_of
from bertexp.tracking.trackers import open_beside
from bertexp.validation import UserError, nearest

# In a sweep's folder: the id of its comparison in W&B.
ID_FILE = ".compare_id"
# A finished run does not change.
_read = cache(read_run)


def compare_sweep(config: DictConfig) -> None:
    """Compare the runs of a sweep, and track the comparison as they were tracked."""
    folder = Path(config.hydra.sweep.dir)
    comparison = compare_runs(read_runs([folder]), folder, metric=sweep_metric(config))
    tracker = parse(config.tracker, TrackerConfig)
    group = group_of(tracker, str(config.sweep)) or ""
    run = open_beside(
        tracker,
        "compare",
        group,
        group=group,
        facts=_facts(comparison),
        id_file=folder / ID_FILE,
    )
    if run:
        columns, rows = setting_rows(comparison)
        run.log_rows("comparison/table", columns, rows)
        run.log_pictures("comparison", sorted(folder.glob("*.png")))
        run.finish()
        if run.location:
            # Offline, one command uploads the jobs as well.
            print("", re.sub(r"(wandb sync \S*/offline-run-)\S+", r"\1*", run.location), sep="\n")
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


def _fine_tuned(comparison: Results) -> list[str]:
    named = (setting.values.get("run") for setting in comparison.settings)
    return [str(run) for run in named if run and (Path(str(run)) / FOLDER).is_dir()]


def _facts(comparison: Results) -> dict[str, object]:
    """Return what the rows are about, and the answer."""
    names = ("metric", "lower_is_better", "at", "budget", "baseline", "margin", "warnings")
    found = {name: getattr(comparison, name) for name in names}
    return {"answer": wording.headline(comparison)} | found


def setting_rows(comparison: Results) -> tuple[list[str], list[list[object]]]:
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


def check_plan(config: DictConfig) -> None:
    """Raise a ``UserError`` if a sweep was begun with another margin or metric."""
    began = read_json(Path(config.hydra.sweep.dir) / RESOLVE_FILE)
    for key, before in began.items():
        if before != (now := config.hydra.sweeper[key]):
            raise UserError(
                f"hydra.sweeper.{key}={value_text(now)}: results are known by now, and this sweep "
                f"was begun with {value_text(before)}; choose another sweep=..."
            )


def open_runs(config: DictConfig, folders: Iterable[Path]) -> list[Path]:
    """Compare the finished runs, print the verdicts, and return those that need more seeds.

    They are the runs of the settings that are not resolved, and of the baseline. The margin and the
    metric are recorded before any results are compared.

    Raises:
        UserError: no run has the metric.
    """
    runs, chosen = [_read(folder) for folder in folders], config.hydra.sweeper
    known = {name for run in runs for name in run.metrics}
    if chosen.metric and chosen.metric not in known:
        hint = nearest(chosen.metric, known)
        raise UserError(f"hydra.sweeper.metric={chosen.metric}: no run has it.{hint}")
    plan = {"margin": chosen.margin, "metric": chosen.metric}
    write_json(Path(config.hydra.sweep.dir) / RESOLVE_FILE, plan)
    comparison = compare(runs, metric=sweep_metric(config))
    for line in _progress(comparison):
        print(line, flush=True)
    undecided = ("not resolved", "one seed")
    # Seeds cannot resolve a setting without a pair of runs.
    left = {d.setting for d in comparison.differences if d.seeds and d.verdict in undecided}
    wanted = {*left, comparison.baseline} if left else left
    return [
        run.folder for run, one in zip(runs, comparison.runs, strict=True) if one.setting in wanted
    ]


def fewest_seeds(settings: int) -> int:
    """Return the fewest seeds at which one of so many settings can be resolved."""
    return anytime.fewest_seeds(ALPHA / max(settings - 1, 1))


def _progress(comparison: Results) -> Iterator[str]:
    """Yield the baseline, then each setting's difference, interval, verdict and number of seeds."""
    fewest = fewest_seeds(len(comparison.differences) + 1)
    names = wording.short_names(comparison)
    for place, d in enumerate(comparison.differences):
        if place == 0:
            yield f"against {names[comparison.baseline or '']}:"
        size = _interval(d, f" {comparison.unit}".rstrip(), fewest)
        yield f"  {names[d.setting]}: {size}, {wording.verdict(d)}, {plural(d.seeds, 'seed')}"


def _interval(difference: Difference, unit: str, fewest: int) -> str:
    digits = wording.two_digits(wording.spread(difference))
    mean = number(difference.mean, digits, signed=True) + unit
    if difference.low is None:
        return f"{mean} (no interval before {fewest} seeds)"
    ends = (number(end, digits, signed=True) for end in (difference.low, difference.high))
    return f"{mean} ({' to '.join(ends)})"
