"""The metrics that a sweep's jobs measure, as far as they are known before any of them runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from omegaconf import DictConfig, ListConfig

from bertexp.console import value_text
from bertexp.evaluation import EVALUATORS
from bertexp.evaluation.config import MINIMAL_PAIRS
from bertexp.experiment.phases import parts
from bertexp.metrics import METRICS, describe
from bertexp.objectives import OBJECTIVES
from bertexp.validation import UserError, nearest

PROBES = "eval/probe/"


def refuse_unknown_metric(metric: str, jobs: Sequence[DictConfig]) -> None:
    """Raise a ``UserError`` for a metric that no job measures, or that ranks nothing."""
    key = f"hydra.sweeper.metric={metric}"
    known = dict.fromkeys(name for job in jobs for name in measured(job))
    if not any(fnmatchcase(metric, name) for name in known):
        raise UserError(f"{key}: no job measures it.{_hint(metric, known)}")
    if describe(metric).lower_is_better is None:
        raise UserError(f"{key}: neither more nor less of it is better; choose another metric.")


def measured(job: DictConfig) -> list[str]:
    """Return a composed job's metrics, with patterns such as ``eval/minimal_pairs/*``.

    All rows of the table of metrics are among them, except those of the objectives and evaluators
    that the job does not have, and a metric of each evaluator's name.
    """
    if "finetune" in job:
        own = [f"eval/{name}" for name in ("loss", *_several(job.finetune.metrics))]
        return [*own, *(f"{name}@*" for name in own)]
    evaluation, evaluators = job.evaluation, EVALUATORS.names()
    chosen = {*_several(evaluation.evaluators)}
    chosen |= {MINIMAL_PAIRS} if evaluation.minimal_pairs else set()
    prefixes = {OBJECTIVES[name].prefix for name in OBJECTIVES.names()}
    used = {
        OBJECTIVES[name].prefix for part in parts(job) for name in _several(part.task.objectives)
    }
    absent = [f"eval/{name}" for name in evaluators if name not in chosen]
    absent += [prefix for prefix in prefixes if prefix not in {*used, "eval/"}]

    rows = [name for name in METRICS if name.startswith("eval/") and name != f"{PROBES}*"]
    rows = [name for name in rows if not name.startswith(tuple(absent))]
    # Also of the parts of objectives, such as the generator of replaced tokens.
    used |= {name.removesuffix("accuracy") for name in rows if name.endswith("_accuracy")}
    endings = [name for name in METRICS if "/" not in name and name not in evaluators]
    conditions = [*map(value_text, _several(evaluation.mask_probs))]
    conditions += [name.partition("@")[2] for name in rows if "@" in name and "*" not in name]
    under = [f"{name}@{condition}" for name in ("loss", "accuracy") for condition in conditions]
    probes = [f"{PROBES}{name}" for name in _several(evaluation.probes) if "probes" in chosen]
    rows += [f"eval/{name}" for name in chosen]
    return [*rows, *probes, *(prefix + name for prefix in used for name in (*endings, *under))]


def _several(value: Any) -> list[Any]:
    return [*value] if isinstance(value, ListConfig) else [value]


def _hint(metric: str, known: Iterable[str]) -> str:
    if metric.startswith("finetune/"):
        return " python -m bertexp.finetune measures it, after a run."
    evaluator = metric.removeprefix("eval/").partition("/")[0].partition("@")[0]
    if EVALUATORS.has(evaluator):
        key = MINIMAL_PAIRS if evaluator == MINIMAL_PAIRS else "evaluators"
        return f" evaluation.{key} can add it."
    # What all have in common would make any two of them near.
    names = [name.removeprefix("eval/") for name in known if "*" not in name]
    if near := nearest(metric.removeprefix("eval/"), names):
        return near.replace("'", "'eval/", 1)
    return f" A plugin's has a row: bertexp.metrics.register('{metric}', lower_is_better=...)."
