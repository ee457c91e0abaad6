"""Runs at equal budgets: what they had reached when they had spent the same."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Sequence

from bertexp.compare.runs import Line

# Where the lines of metrics.jsonl say what had been spent.
UNITS = {
    "steps": "step",
    "tokens": "train/tokens",
    "predicted_tokens": "train/predicted_tokens",
    "time": "train/seconds",
    "flops": "train/flops",
}
# Runs of the same mask-rate study take the same steps on the same tokens.
DEFAULT_UNIT = "steps"

Curve = Sequence[tuple[float, float]]


def read_curve(history: Iterable[Line], metric: str, at: str) -> Curve:
    """Return (spent, metric) of every evaluation, in order; NaN where it was no number."""
    unit = UNITS[at]
    found = {}
    for line in history:
        if metric in line and (spent := line.get(unit)) is not None:
            value = line[metric]
            found[spent] = math.nan if value is None else value
    return sorted(found.items())


def common_budget(curves: Iterable[Curve]) -> float | None:
    """Return the largest budget that all curves have reached; None without a point to go by.

    Those that were evaluated before their first step alone have spent nothing yet.
    """
    ends = [curve[-1][0] for curve in curves if curve]
    return min((end for end in ends if end > 0), default=max(ends, default=None))


def value_at(curve: Curve, budget: float) -> float | None:
    """Return the metric at ``budget``, on the straight line between two evaluations.

    None before the first evaluation and after the last: nothing is known there.
    """
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


def is_midway(curve: Curve, budget: float) -> bool:
    """Return whether a run went on after ``budget``, by more than 2% of it."""
    return curve[-1][0] > 1.02 * budget
