"""Settings that no job of a sweep reads, and jobs that are therefore the same run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bertexp.unread import COMMAND_LINE, Condition, conditions, unread, written, written_keys
from bertexp.validation import UserError

# What a run and its sweep are called changes nothing of it; a sweep may be named by the clock.
LABELS = ("name", "model.name", "sweep")


def refuse_unread_in_sweep(
    jobs: Sequence[DictConfig],
    keys: Sequence[str],
    schemas: Sequence[type[Any]],
    searched: Sequence[str] | None,
) -> None:
    """Raise a ``UserError`` for a key that was written and that no job reads, or for equal jobs.

    Args:
        jobs: what was composed for each, with Hydra's part.
        searched: the overrides of the first job of a search, whose other jobs are not known yet
            and may be equal; None for a sweep that is known as a whole.
    """
    every = conditions(*schemas)
    if searched is not None:
        varied = [*written_keys(searched)]
        every = [condition for condition in every if not condition.chosen_by(varied)]
    reasons: dict[str, list[str | None]] = {}
    for job in jobs:
        found = written(job.hydra)
        why = unread(found, job, every)
        for key in found:
            reasons.setdefault(key, []).append(why.get(key))
    for each in reasons.values():
        if all(each):
            raise UserError(f"{each[0]}.")
    if searched is None:
        _refuse_equal(jobs, keys, every)


def _refuse_equal(
    jobs: Sequence[DictConfig], keys: Sequence[str], every: Sequence[Condition]
) -> None:
    """Raise a ``UserError`` if two jobs read the same values, whatever their names."""
    known: dict[str, DictConfig] = {}
    for job in jobs:
        unmet = [condition for condition in every if not condition.holds(job)]
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
        why = unread(dict.fromkeys(named, COMMAND_LINE), job, every).values()
        raise UserError(
            f"two jobs of this sweep are the same run: {' and '.join(map(','.join, differ))}."
            + "".join(f" {reason}." for reason in [*why][:1])
        )


def _only(job: DictConfig, other: DictConfig) -> list[str]:
    return [one for one in job.hydra.overrides.task if one not in other.hydra.overrides.task]
