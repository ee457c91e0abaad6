"""Runs at equal budgets: the value of each when all had spent the same."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from bertexp.console import clock, compact

if TYPE_CHECKING:
    # Not imported for --help, which names the units: reading runs needs slow imports.
    from bertexp.compare.runs import Curve, Line, Record


class Unit(NamedTuple):
    """A unit of the budget: its name in ``metrics.jsonl``, and its name for people."""

    column: str
    words: str


UNITS = {
    "steps": Unit("step", "steps"),
    "tokens": Unit("train/tokens", "tokens"),
    "predicted_tokens": Unit("train/predicted_tokens", "predicted tokens"),
    "time": Unit("train/seconds", "seconds"),
    "flops": Unit("train/flops", "FLOPs"),
}
# Runs of the same mask-rate study take the same steps on the same tokens.
DEFAULT_UNIT = "steps"
# A run that ends at most 2% past its budget counts as ending at it: its last batch exceeds a number
# of tokens.
LATEST = 1.02


def default_unit(runs: Sequence[Record]) -> str:
    """Return ``tokens`` if all runs were given the same number of them and nothing else."""
    limits = [f"trainer.{key}" for key in ("epochs", "max_steps", "max_time", "max_tokens")]
    given = {tuple(run.config.get(key) for key in limits) for run in runs}
    (*others, tokens) = given.pop() if len(given) == 1 else (None, None, None)
    return "tokens" if tokens and not any(others) else DEFAULT_UNIT


def spent(at: str, budget: float) -> str:
    """Return a budget with its unit: ``1.5M predicted tokens``, ``12:05 of training``."""
    if at == "time":
        return f"{clock(budget)} of training"
    return f"{compact(budget)} {UNITS[at].words}"


def measure(
    runs: Sequence[Record], metric: str, at: str, evaluation: str | None = None
) -> tuple[float | None, list[Record]]:
    """Return the budget that all finished runs have reached, and the runs with their values there.

    Before any run has finished it is the one that all evaluated runs have reached. A saved
    ``evaluation`` has no budget, nor has a metric that was only measured at different ends.
    """
    if evaluation:
        where = f"has no {metric} in evaluations/{evaluation}.json"
        saved = [run.metrics.get(metric) for run in runs]
        found = [
            replace(run, value=value, missing=where if value is None else None)
            for run, value in zip(runs, saved, strict=True)
        ]
        return None, _without_repeated(found)
    runs = [replace(run, curve=read_curve(run.history, metric, at)) for run in runs]
    ends = {run.curve[0][0] for run in runs if run.curve}
    if len(ends) > 1 and all(len(run.curve) <= 1 for run in runs):
        return None, _without_repeated([_at_its_end(run, metric, at) for run in runs])
    finished = [run.curve for run in runs if run.status == "finished"]
    budget = common_budget(finished if any(finished) else [run.curve for run in runs])
    found = []
    for run in runs:
        missing = _missing(run, metric, at, budget)
        value = None if missing or budget is None else value_at(run.curve, budget)
        found.append(replace(run, value=value, missing=missing))
    return budget, _without_repeated(found)


def read_curve(history: Iterable[Line], metric: str, at: str) -> Curve:
    """Return (spent, metric) of every evaluation in order, with NaN if it was not finite."""
    found = {}
    for line in history:
        if metric in line and (amount := line.get(UNITS[at].column)) is not None:
            value = line[metric]
            found[amount] = math.nan if value is None else value
    return sorted(found.items())


def common_budget(curves: Iterable[Curve]) -> float | None:
    """Return the largest budget that all curves have reached; None without any points.

    Runs that were evaluated only before their first step have spent nothing yet.
    """
    ends = [curve[-1][0] for curve in curves if curve]
    return min((end for end in ends if end > 0), default=max(ends, default=None))


def value_at(curve: Curve, budget: float) -> float | None:
    """Return the metric at ``budget``, interpolated; None before or after all evaluations.

    If a run was evaluated only at its end, the end counts as the budget up to 2% after it.
    """
    if _only_end(curve, budget):
        return curve[-1][1]
    place = bisect.bisect_left(curve, budget, key=lambda point: point[0])
    if place == len(curve):
        return None
    after, value = curve[place]
    if after == budget:
        return value
    if place == 0:
        return None
    before, start = curve[place - 1]
    return start + (value - start) * (budget - before) / (after - before)


def first_trained(curve: Curve) -> float | None:
    return next((x for x, _ in curve if x > 0), None)


def is_midway(curve: Curve, budget: float) -> bool:
    return curve[-1][0] > LATEST * budget


def _only_end(curve: Curve, budget: float) -> bool:
    """Return whether a run was evaluated only at its end, at the budget or just after it."""
    end = curve[-1][0]
    return first_trained(curve) == end >= budget and not is_midway(curve, budget)


def _at_its_end(run: Record, metric: str, at: str) -> Record:
    missing = _missing(run, metric, at, run.curve[-1][0] if run.curve else None)
    return replace(run, value=None if missing else run.curve[-1][1], missing=missing)


def _missing(run: Record, metric: str, at: str, budget: float | None) -> str | None:
    if not run.curve:
        evaluated = any(metric in line for line in run.history)
        return f"did not log {UNITS[at].column}" if evaluated else f"has no {metric}"
    assert budget is not None
    first = first_trained(run.curve)
    # A loss falls steeply at first: on a straight line from the untrained model it would appear far
    # worse than it was.
    is_unspent = run.curve[0][0] == budget
    if first and first > budget and not (is_unspent or _only_end(run.curve, budget)):
        return (
            f"was not evaluated from its first step to {spent(at, first)}, and is compared at "
            f"{spent(at, budget)}"
        )
    value = value_at(run.curve, budget)
    if value is None:
        end = spent(at, run.curve[-1][0])
        return f"has no {metric} at {spent(at, budget)}: it ended at {end}"
    return f"{metric} is not a number" if math.isnan(value) else None


def _without_repeated(runs: Sequence[Record]) -> list[Record]:
    """Leave out the values of repeated runs, which are no further evidence."""
    newest: dict[tuple[str, tuple[str, ...]], Record] = {}
    for run in sorted(runs, key=lambda run: run.written):
        if run.value is not None:
            newest[run.setting, run.pair] = run
    return [
        run
        if run.value is None or newest[run.setting, run.pair] is run
        else replace(run, value=None, missing="a newer run has the same setting and seed")
        for run in runs
    ]
