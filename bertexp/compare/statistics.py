"""How large a difference is, how sure that is, and what it would take to be sure."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import nctdtr, stdtr, stdtrit

from bertexp.compare.results import Difference

ALPHA = 0.05
POWER = 0.8
MOST_SEEDS = 10_000


class Estimate(NamedTuple):
    """The mean of some values, and its 95% interval if there are two or more.

    ``p_value`` is two-sided, for a true mean of 0.
    """

    mean: float
    deviation: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean with Student's t interval.

    Its coverage holds at three values too, if they are about normal: that of a percentile
    bootstrap does not, which can do no better than the extremes of three values.
    """
    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return Estimate(mean)
    deviation = float(np.std(values, ddof=1))
    error = deviation / count**0.5
    half = float(stdtrit(count - 1, 1 - ALPHA / 2)) * error
    size = abs(mean) / error if error else math.inf if mean else 0.0
    p_value = 2 * float(stdtr(count - 1, -size))
    return Estimate(mean, deviation, mean - half, mean + half, p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values corrected for their number (Holm 1979), in the order given.

    With those at most 5% called resolved, the chance to call even one that is none is at
    most 5%, however the comparisons depend on each other.
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, (len(p_values) - rank) * p_values[index])
        corrected[index] = min(1.0, highest)
    return corrected


def power(seeds: int, effect: float, deviation: float, alpha: float = ALPHA) -> float:
    """Return the chance that a two-sided paired t test finds ``effect``, its sign included.

    Args:
        seeds: number of pairs.
        effect: true mean of the differences.
        deviation: their true standard deviation.
        alpha: the level of the test.
    """
    critical = stdtrit(seeds - 1, 1 - alpha / 2)
    shift = abs(effect) / deviation * seeds**0.5
    missed = nctdtr(seeds - 1, shift, critical)
    # Far from the critical value scipy cannot tell the chance to miss from 0, and gives NaN.
    return 1 - float(np.nan_to_num(missed))


def seeds_needed(
    effect: float, deviation: float, alpha: float = ALPHA, tried: int = 1
) -> int | None:
    """Return the fewest seeds that find ``effect`` with a power of 80%; None beyond 10,000.

    Args:
        effect: mean of the differences, taken to be the true one.
        deviation: their standard deviation, taken to be the true one.
        alpha: the level of the test.
        tried: seeds that have not resolved it: it takes more.
    """
    if effect == 0 or deviation == 0:
        return None
    counts = range(tried + 1, MOST_SEEDS + 1)
    place = bisect.bisect_left(
        counts, POWER, key=lambda seeds: power(seeds, effect, deviation, alpha)
    )
    return counts[place] if place < len(counts) else None


def differences(
    values: Mapping[str, Mapping[tuple[str, ...], float]], baseline: str, lower_is_better: bool
) -> tuple[Difference, ...]:
    """Return each setting against the baseline, in pairs, corrected for their number.

    The seeds needed are those at which the smallest p of all that are not resolved would
    pass: the level is that of Holm's next step.

    Args:
        values: the metric by setting and by what pairs are alike in; none is empty.
        baseline: the setting that the others are compared with.
        lower_is_better: of the metric.
    """
    base = values[baseline]
    others = {label: found for label, found in values.items() if label != baseline}
    paired = {
        label: [found[pair] - base[pair] for pair in found if pair in base]
        for label, found in others.items()
    }
    estimates = {label: estimate(found) for label, found in paired.items() if found}
    tested = {label: e.p_value for label, e in estimates.items() if e.p_value is not None}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    unresolved = sum(p > ALPHA for p in corrected.values())
    found = []
    for label, pairs in paired.items():
        unpaired = float(np.mean(list(others[label].values())) - np.mean(list(base.values())))
        e = estimates.get(label, Estimate(unpaired))
        p = corrected.get(label)
        verdict = _verdict(len(pairs), e.mean, p, lower_is_better)
        needed = None
        if p is not None and p > ALPHA and e.deviation is not None:
            needed = seeds_needed(e.mean, e.deviation, ALPHA / unresolved, len(pairs))
        found.append(
            Difference(label, len(pairs), e.mean, e.low, e.high, e.p_value, p, verdict, needed)
        )
    return tuple(found)


def _verdict(pairs: int, mean: float, p: float | None, lower_is_better: bool) -> str:
    if pairs == 1:
        return "one seed"
    if p is None or p > ALPHA:
        return "not resolved"
    return "better" if (mean < 0) == lower_is_better else "worse"
