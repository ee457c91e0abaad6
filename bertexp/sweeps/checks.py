"""What is refused before the first job of a sweep starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from omegaconf import DictConfig, OmegaConf

from bertexp.config import RunConfig, parse
from bertexp.evaluation import EVALUATORS
from bertexp.experiment.phases import parts, unread_in_all
from bertexp.metrics import METRICS, describe
from bertexp.objectives import OBJECTIVES
from bertexp.unread import COMMAND_LINE, Condition, conditions, written, written_keys
from bertexp.validation import UserError, nearest

# Names do not change a run, and a sweep's may contain the time.
LABELS = ("name", "model.name", "sweep")


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
        unread = sum(map(bool, each))
        # A key that only some jobs set was chosen for these.
        if unread and len(each) == len(jobs) and written(jobs[0].hydra)[key] == COMMAND_LINE:
            print(f"{key}: {unread} of {len(jobs)} jobs do not read it.", flush=True)
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


def require_direction(metric: str) -> None:
    """Raise a ``UserError`` for ``hydra.sweeper.metric`` unless more or less of it is better."""
    # Importing the parts adds their rows to the table.
    prefixes = {OBJECTIVES[name].prefix.removeprefix("eval/") for name in OBJECTIVES.names()}
    EVALUATORS.names()
    if metric.startswith("eval/") and describe(metric).best:
        return
    rows = [name for name, row in METRICS.items() if row.best and "*" not in name]
    names = [row.removeprefix("eval/") for row in rows if row.startswith("eval/")]
    names += [f"{prefix}{row}" for prefix in prefixes for row in rows if "/" not in row]
    # What all have in common would make any two of them near.
    hint = nearest(metric.removeprefix("eval/"), names).replace("'", "'eval/", 1)
    raise UserError(
        f"hydra.sweeper.metric={metric}: must be a metric eval/... of a run, of which it is known "
        f"whether a higher value is better (from a plugin by bertexp.metrics.register).{hint}"
    )
