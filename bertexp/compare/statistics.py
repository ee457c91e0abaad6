"""Differences, their uncertainty, and the number of seeds that would resolve them."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit, nctdtr, stdtr, stdtrit

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


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return the p values by name, corrected for their number (Holm 1979).

    If differences with at most 5% count as resolved, the chance of even one false one is at most
    5%, however the comparisons depend on each other.
    """
    corrected = dict(p_values)
    highest = 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        highest = max(highest, (len(p_values) - rank) * p_values[name])
        corrected[name] = min(1.0, highest)
    return corrected


def equivalence_p(values: Sequence[float], margin: float) -> float:
    """Return the p value of a mean beyond ``margin``: the larger of two one-sided t tests.

    Below 5% the mean is within the margin on both sides (Schuirmann 1987).
    """
    count = len(values)
    error = float(np.std(values, ddof=1)) / count**0.5
    slack = margin - abs(float(np.mean(values)))
    size = slack / error if error else math.copysign(math.inf, slack)
    return float(stdtr(count - 1, -size))


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
