"""Inference that is valid at any time: however often one looks, and whenever one stops.

Student's t is wrong 5% of the time at one look; with a look after every seed until it finds a
difference, far more often. Here the chance that the interval of any look misses the truth is at
most 5%, for differences of any distribution that is symmetric around it. Where two settings do not
differ, exchanging them within a seed changes nothing: their differences are symmetric, whatever
the results of seeds look like (skewed, or in two groups because some runs stay on a plateau).

Of a difference x that is symmetric around m, the sign of y = x - m is a fair coin, given its size.
So for any bet b that depends on sizes alone, exp(b y) / cosh(b y) is 1 in the mean, the product
over seeds is a martingale, and so is the mean of several products; it ever reaches 1 / alpha with a
chance of at most alpha (Ville 1939; Vovk and Wang 2024, "Nonparametric e-tests of symmetry"). Bets
are made in units of the root mean square of the sizes so far. The interval has every m whose
product is below 1 / alpha.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq

from bertexp.compare.results import Look

# Small bets find small effects, large bets find large effects early: with 0.5 to 2, those of half a
# standard deviation to several take as few seeds as with the t mixture of Wang and Ramdas (2025).
BETS = (0.5, 1.0, 2.0)
# Distances from the mean, in standard deviations, in which an interval's ends are looked for: close
# together as far as there may be values, since beside an outlier the evidence falls again.
DISTANCES = np.concatenate(
    [np.geomspace(0.01, 0.1, 12), np.arange(0.13, 10, 0.03), np.geomspace(10, 1e4, 50)]
)
# Between two of them the evidence may be lower than at both by this.
GRAZING = 1e-3


def log_evidence(values_N: np.ndarray) -> np.ndarray:
    """Return the logarithm of the evidence against a centre of 0 after each of N differences."""
    size = np.sqrt((values_N**2).cumsum(-1) / np.arange(1, values_N.shape[-1] + 1))
    share = np.divide(values_N, size, out=np.zeros_like(values_N), where=size > 0)
    bets = [side * bet for bet in BETS for side in (-1, 1)]
    won = [(bet * share - _log_cosh(bet * share)).cumsum(-1) for bet in bets]
    return np.logaddexp.reduce(won, axis=0) - math.log(len(bets))


def _log_cosh(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(x, -x) - math.log(2)


def p_value(values: Sequence[float]) -> float:
    """Return 1 / evidence against a centre of 0, at most 1."""
    return math.exp(-max(float(log_evidence(np.array(values))[-1]), 0.0))


def fewest_seeds(alpha: float) -> int:
    """Return the fewest differences that can be evidence: as many as have the same sign."""
    return int((log_evidence(np.ones(1000)) >= -math.log(alpha)).argmax()) + 1


def interval(values: Sequence[float], alpha: float) -> tuple[float, float] | None:
    """Return the interval of the centre after all values; None if they are too few."""
    found = np.array(values)
    mean, deviation = float(found.mean()), float(found.std())
    if len(found) < fewest_seeds(alpha):
        return None
    if not deviation:
        return mean, mean

    def excess(centre: float | np.ndarray) -> np.ndarray:
        against = log_evidence(found - np.expand_dims(centre, -1))[..., -1]
        return against + math.log(alpha)

    # The first value counts by its sign alone, so at it the evidence jumps.
    jump = abs(values[0] - mean) / deviation
    distances = np.sort([*DISTANCES, jump * (1 - 1e-9), jump * (1 + 1e-9)])
    ends = []
    for step in (-deviation, deviation):
        over = excess(mean + step * distances)
        inside, close = np.flatnonzero(over < 0), np.flatnonzero(over < GRAZING)
        last, closest = (int(each[-1]) if len(each) else 0 for each in (inside, close))
        if last + 1 == len(distances):
            return None
        distance = distances[max(last, closest)]
        if over[last] < 0 and closest <= last + 1:
            distance = brentq(
                lambda d, s=step: excess(mean + s * d), distances[last], distances[last + 1]
            )
        ends.append(mean + step * distance)
    return ends[0], ends[1]


def looks(values: Sequence[float], alpha: float, span: float = math.inf) -> tuple[Look, ...]:
    """Return the mean and its interval, cut at ``span`` on both sides, after each value."""
    return tuple(look(values[:seeds], alpha, span) for seeds in range(1, len(values) + 1))


def look(values: Sequence[float], alpha: float, span: float = math.inf) -> Look:
    """Return the mean of all values and its interval, cut at ``span`` on both sides."""
    low, high = interval(values, alpha) or (None, None)
    if low is not None and high is not None:
        low, high = max(low, -span), min(high, span)
    return Look(len(values), float(np.mean(values)), low, high)


def seeds_needed(values: Sequence[float], alpha: float, margin: float, most: int) -> int | None:
    """Return how many seeds resolve the difference if more are like ``values``, again and again."""
    alike = np.resize(values, most)

    def excluded(centre: float) -> np.ndarray:
        return log_evidence(alike - centre) >= -math.log(alpha)

    resolved = excluded(0.0)
    if abs(np.mean(values)) < margin:
        resolved |= excluded(margin) & excluded(-margin)
    resolved[: len(values)] = False
    return int(resolved.argmax()) + 1 if resolved.any() else None
