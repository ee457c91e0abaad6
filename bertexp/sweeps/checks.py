"""What is refused before the first job of a sweep starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from fnmatch import fnmatchcase
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from bertexp.config import RunConfig, parse
from bertexp.console import value_text
from bertexp.evaluation import EVALUATORS
from bertexp.evaluation.config import MINIMAL_PAIRS
from bertexp.experiment.phases import parts, unread_in_all
from bertexp.metrics import METRICS, describe
from bertexp.objectives import OBJECTIVES
from bertexp.unread import COMMAND_LINE, Condition, conditions, written, written_keys
from bertexp.validation import UserError, nearest

# Names do not change a run, and a sweep's may contain the time.
LABELS = ("name", "model.name", "sweep")
PROBES = "eval/probe/"


def refuse_mistakes(
    jobs: Sequence[DictConfig],
    keys: Sequence[str],
    schemas: Sequence[type[RunConfig]],
    searched: Sequence[str] | None,
) -> None:
    """Raise a ``UserError`` for a wrong value, a written key that no job reads, or equal jobs.

    Args:
        jobs: their composed configurations, with Hydra's part.
        searched: the overrides of a search's first job, as the others are not known yet and may be
            equal, and some may fail; None for a sweep whose jobs are all known.
    """
    if searched is None:
        _refuse_wrong_values(jobs, schemas)
    every = conditions(*schemas)
    if searched is not None:
        varied = [*written_keys(searched)]
        every = [condition for condition in every if not condition.chosen_by(varied)]
    reasons: dict[str, list[str | None]] = {}
    for job in jobs:
        found = written(job.hydra)
        why = unread_in_all(found, job, every)
        for key in found:
            reasons.setdefault(key, []).append(why.get(key))
    for key, each in reasons.items():
        if all(each):
            raise UserError(f"{each[0]}.")
        skipped = [job for job, why in zip(jobs, each, strict=False) if why]
        # A key that only some jobs set was chosen for these.
        if skipped and len(each) == len(jobs) and written(jobs[0].hydra)[key] == COMMAND_LINE:
            print(f"{key}: {len(skipped)} of {len(jobs)} jobs do not read it.", flush=True)
    if searched is None:
        _refuse_equal(jobs, keys, every)


def _refuse_wrong_values(jobs: Sequence[DictConfig], schemas: Sequence[type[RunConfig]]) -> None:
    for job in jobs:
        own = OmegaConf.masked_copy(job, [str(key) for key in job if key != "hydra"])
        (schema,) = (one for one in schemas if all(field.name in own for field in fields(one)))
        parse(own, schema)


def _refuse_equal(
    jobs: Sequence[DictConfig], keys: Sequence[str], every: Sequence[Condition]
) -> None:
    """Raise a ``UserError`` if two jobs read the same values, apart from names."""
    known: dict[str, DictConfig] = {}
    for job in jobs:
        phases = parts(job)
        unmet = [each for each in every if not any(each.holds(phase) for phase in phases)]
        values = {
            key: OmegaConf.select(job, key)
            for key in keys
            if key not in LABELS and not any(condition.is_about(key) for condition in unmet)
        }
        same = known.setdefault(str(values), job)
        if same is job:
            continue
        differ = [_only(one, other) for one, other in ((same, job), (job, same))]
        if not any(differ):
            raise UserError("two jobs of this sweep are the same run: a value is listed twice.")
        named = written_keys(differ[1] or differ[0])
        why = unread_in_all(dict.fromkeys(named, COMMAND_LINE), job, every).values()
        raise UserError(
            f"two jobs of this sweep are the same run: {' and '.join(map(','.join, differ))}."
            + "".join(f" {reason}." for reason in [*why][:1])
        )


def _only(job: DictConfig, other: DictConfig) -> list[str]:
    return [one for one in job.hydra.overrides.task if one not in other.hydra.overrides.task]


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
    prefixes = _prefixes(OBJECTIVES.names())
    used = _prefixes(name for part in parts(job) for name in _several(part.task.objectives))
    absent = [f"eval/{name}" for name in evaluators if name not in chosen]
    absent += [prefix for prefix in prefixes if prefix not in {*used, "eval/"}]

    rows = [name for name in METRICS if name.startswith("eval/") and name != f"{PROBES}*"]
    rows = [name for name in rows if not name.startswith(tuple(absent))]
    endings = [name for name in METRICS if "/" not in name and name not in evaluators]
    conditions = [*map(value_text, _several(evaluation.mask_probs))]
    conditions += [name.partition("@")[2] for name in rows if "@" in name and "*" not in name]
    under = [f"{name}@{condition}" for name in ("loss", "accuracy") for condition in conditions]
    probes = [f"{PROBES}{name}" for name in _several(evaluation.probes) if "probes" in chosen]
    rows += [f"eval/{name}" for name in chosen]
    return [*rows, *probes, *(prefix + name for prefix in used for name in (*endings, *under))]


def _prefixes(objectives: Iterable[str]) -> set[str]:
    kinds = [OBJECTIVES[name] for name in objectives]
    return {prefix for kind in kinds for prefix in (kind.prefix, kind.second_prefix) if prefix}


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
