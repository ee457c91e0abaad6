"""Differences, their uncertainty, and the number of seeds that would resolve them."""

from __future__ import annotations

import bisect
import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit, nctdtr, stdtr, stdtrit

from bertexp.compare.results import Difference
from bertexp.metrics import Metric

ALPHA = 0.05
POWER = 0.8
MOST_SEEDS = 10_000
UNBOUNDED = Metric(lower_is_better=True)

# A metric by setting, by seed, and by what else runs differ in: those alike in both are a pair.
Values = Mapping[str, Mapping[str, Mapping[tuple[str, ...], float]]]


class Estimate(NamedTuple):
    """The mean of some values, and its 95% interval if there are two or more.

    ``p_value`` is two-sided, for a true mean of 0.
    """

    mean: float
    deviation: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None


def estimate(values: Sequence[float], low: float = -math.inf, high: float = math.inf) -> Estimate:
    """Return the mean with Student's t interval.

    Its coverage holds at three values too, if they are about normal: that of a percentile
    bootstrap does not, which can do no better than the extremes of three values.

    Values between two bounds are not normal near either. There the interval is that of the
    mean's logit, by the delta method: it stays within the bounds and covers where a t interval
    cut at them does not (for three accuracies around 0.97, 90 to 95% instead of 75 to 91%;
    Brown, Cai and DasGupta 2001 on shares). With one bound it is the t interval, cut.
    """
    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return Estimate(mean)
    deviation = float(np.std(values, ddof=1))
    error = deviation / count**0.5
    critical = float(stdtrit(count - 1, 1 - ALPHA / 2))
    share = (mean - low) / (high - low) if math.isfinite(high - low) else math.nan
    if 0 < share < 1:
        slope = (high - low) * share * (1 - share)
        centre, half = logit(share), critical * error / slope
        ends = [low + (high - low) * float(expit(centre + side * half)) for side in (-1, 1)]
        distance = abs(centre - logit(-low / (high - low))) * slope if low < 0 < high else abs(mean)
    else:
        ends = [max(mean - critical * error, low), min(mean + critical * error, high)]
        distance = abs(mean)
    size = distance / error if error else math.inf if mean else 0.0
    return Estimate(mean, deviation, ends[0], ends[1], 2 * float(stdtr(count - 1, -size)))


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

    ``effect`` and ``deviation`` are the true mean and standard deviation of the differences.
    """
    critical = stdtrit(seeds - 1, 1 - alpha / 2)
    shift = abs(effect) / deviation * seeds**0.5
    missed = nctdtr(seeds - 1, shift, critical)
    # Far from the critical value scipy returns NaN instead of a chance to miss of about 0.
    return 1 - float(np.nan_to_num(missed))


def seeds_needed(
    effect: float, deviation: float, alpha: float = ALPHA, tried: int = 1
) -> int | None:
    """Return the fewest seeds that find ``effect`` with a power of 80%; None beyond 10,000.

    ``effect`` and ``deviation`` are taken to be the true ones; ``tried`` seeds were not enough.
    """
    if effect == 0 or deviation == 0:
        return None
    counts = range(tried + 1, MOST_SEEDS + 1)
    place = bisect.bisect_left(
        counts, POWER, key=lambda seeds: power(seeds, effect, deviation, alpha)
    )
    return counts[place] if place < len(counts) else None


def by_seed(values: Values, setting: str) -> list[float]:
    """Return the mean over each seed's runs of a setting: the seed is what is drawn anew."""
    return [float(np.mean(list(runs.values()))) for runs in values[setting].values()]


def differences(
    values: Values, baseline: str, metric: Metric = UNBOUNDED
) -> tuple[Difference, ...]:
    """Return each setting against the baseline, in pairs, corrected for their number.

    Runs of one seed share their luck, whatever else they differ in: within a seed the
    differences of all pairs are averaged, and the interval is over seeds.
    """
    base = values[baseline]
    gaps, unpaired = {}, {}
    for label, found in values.items():
        if label == baseline:
            continue
        pairs = {
            seed: [
                value - base[seed][other] for other, value in runs.items() if other in base[seed]
            ]
            for seed, runs in found.items()
            if seed in base
        }
        gaps[label] = [float(np.mean(each)) for each in pairs.values() if each]
        unpaired[label] = float(
            np.mean(by_seed(values, label)) - np.mean(by_seed(values, baseline))
        )
    return judge(gaps, metric, unpaired)


def judge(
    gaps: Mapping[str, Sequence[float]],
    metric: Metric,
    unpaired: Mapping[str, float] | None = None,
    neutral: Collection[str] = (),
) -> tuple[Difference, ...]:
    """Return what is known of differences, corrected for their number.

    The seeds needed are those at which the smallest p of all that are not resolved would
    pass: the level is that of Holm's next step.

    Args:
        gaps: by name, one for each seed.
        unpaired: the difference of those without a seed.
        neutral: the names of those that are neither better nor worse.
    """
    span = metric.high - metric.low
    estimates = {
        name: estimate(found, -span, span) if found else Estimate((unpaired or {})[name])
        for name, found in gaps.items()
    }
    tested = {name: e.p_value for name, e in estimates.items() if e.p_value is not None}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    unresolved = sum(p > ALPHA for p in corrected.values())
    found = []
    for name, e in estimates.items():
        seeds, p = len(gaps[name]), corrected.get(name)
        verdict = _verdict(seeds, e.mean, p, metric.lower_is_better)
        if name in neutral and verdict in ("better", "worse"):
            verdict = "resolved"
        needed = None
        if p is not None and p > ALPHA and e.deviation is not None:
            needed = seeds_needed(e.mean, e.deviation, ALPHA / unresolved, seeds)
        found.append(Difference(name, seeds, e.mean, e.low, e.high, e.p_value, p, verdict, needed))
    return tuple(found)


def _verdict(seeds: int, mean: float, p: float | None, lower_is_better: bool | None) -> str:
    if seeds == 1:
        return "one seed"
    if p is None or p > ALPHA:
        return "not resolved"
    return "better" if (mean < 0) == lower_is_better else "worse"
