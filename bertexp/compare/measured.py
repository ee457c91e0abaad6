"""Runs measured at one budget: what each is worth to the comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bertexp.compare.budgets import UNITS, Curve, common_budget, read_curve, value_at
from bertexp.compare.runs import Run
from bertexp.compare.settings import Grouping
from bertexp.compare.wording import spent


@dataclass(frozen=True)
class Measured:
    """A run and its value.

    Attributes:
        run: the run.
        setting: label of its setting.
        unit: the seed that it shares its luck by, see ``Grouping.unit``.
        pair: what a run of another setting has in common with it if the two are a pair.
        curve: (spent, metric) of every evaluation.
        value: the metric at the budget, or None.
        missing: why it has no value, or None.
    """

    run: Run
    setting: str
    unit: str
    pair: tuple[str, ...]
    curve: Curve
    value: float | None
    missing: str | None


def measure(
    runs: Sequence[Run], grouping: Grouping, metric: str, at: str, evaluation: str | None = None
) -> tuple[float | None, list[Measured]]:
    """Return the budget that all finished runs have reached, and every run's value there.

    As long as none has finished it is what all evaluated ones have reached. The figures of a saved
    ``evaluation`` have no budget.
    """
    if evaluation:
        return None, _without_repeated([_saved(run, grouping, metric, evaluation) for run in runs])
    curves = [read_curve(run.history, metric, at) for run in runs]
    finished = [curve for run, curve in zip(runs, curves, strict=True) if run.status == "finished"]
    budget = common_budget(finished if any(finished) else curves)
    found = []
    for run, curve in zip(runs, curves, strict=True):
        value = None if budget is None else value_at(curve, budget)
        missing = _missing(run, curve, value, metric, at, budget)
        if missing:
            value = None
        place = (grouping.label(run), grouping.unit(run), grouping.pair(run))
        found.append(Measured(run, *place, curve, value, missing))
    return budget, _without_repeated(found)


def _saved(run: Run, grouping: Grouping, metric: str, evaluation: str) -> Measured:
    value = run.metrics.get(metric)
    missing = None if value is not None else f"has no {metric} in evaluations/{evaluation}.json"
    place = (grouping.label(run), grouping.unit(run), grouping.pair(run))
    return Measured(run, *place, (), value, missing)


def _missing(
    run: Run, curve: Curve, value: float | None, metric: str, at: str, budget: float | None
) -> str | None:
    """Return why a run has no value; None if it has one."""
    if not curve:
        evaluated = any(metric in line for line in run.history)
        return f"did not log {UNITS[at]}" if evaluated else f"has no {metric}"
    assert budget is not None
    if value is None and curve[0][0] > budget:
        first = spent(at, curve[0][0])
        return f"has no {metric} before {first}, and is compared at {spent(at, budget)}"
    if value is None:
        return f"has no {metric} at {spent(at, budget)}: it ended at {spent(at, curve[-1][0])}"
    return f"{metric} is not a number" if math.isnan(value) else None


def _without_repeated(found: Sequence[Measured]) -> list[Measured]:
    """Leave out the values of runs that were made over again: they are no further evidence."""
    newest: dict[tuple[str, tuple[str, ...]], Measured] = {}
    for measured in sorted(found, key=lambda m: m.run.written):
        if measured.value is not None:
            newest[measured.setting, measured.pair] = measured
    return [
        replace(measured, value=None, missing="a newer run has the same setting and seed")
        if measured.value is not None and newest[measured.setting, measured.pair] is not measured
        else measured
        for measured in found
    ]
