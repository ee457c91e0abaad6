"""Inference that is valid at any time: however often one looks, and whenever one stops.

A Student's t interval is wrong 5% of the time at one look. With a look after every seed until one
of them excludes zero, it is wrong most of the time. Here the chance that any interval, at any
number of seeds, misses the true difference is at most 5%.

For differences x_1..x_n and a mean m under test, let y = x - m and u = (sum y)^2 / (n sum y^2):

    E_n = sqrt(r) * (1 - (1 - r) * u)^(-n / 2),    r = 1 / (1 + n * PRIOR),

is the likelihood ratio of the t statistic, mixed over effects (in standard deviations) that are
normal around 0 with variance PRIOR. For normal differences of any variance it is a martingale that
begins at 1, so it ever reaches 1 / alpha with a chance of at most alpha (Wang and Ramdas 2025,
"Anytime-valid t-tests"; Ville 1939). The interval is every m with E_n below 1 / alpha.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bertexp.compare.results import Look

# Chosen for seeds that are not normal, which only simulation can show: with a fair coin instead of
# a difference, the hardest of those that are symmetric, up to 5 settings are declared wrongly in at
# most 5% of studies (0.1: 3.1%, 0.5: 8.8%). A smaller one costs seeds where effects are large.
PRIOR = 0.2


def half_widths(values_N: np.ndarray, alpha: float) -> np.ndarray:
    """Return half the width of the interval after each of N differences, on the last axis.

    It is infinite as long as no difference, however large, could be told from zero: for the first
    7 at an ``alpha`` of 5%, for the first 9 at 1%.
    """
    count = np.arange(1, values_N.shape[-1] + 1)
    from_first = values_N - values_N[..., :1]  # exact for equal values
    mean = from_first.cumsum(-1) / count
    variance = np.maximum((from_first**2).cumsum(-1) / count - mean**2, 0.0)
    return _times_deviation(np.sqrt(variance), count, alpha)


def _times_deviation(deviation: np.ndarray, count: np.ndarray, alpha: float) -> np.ndarray:
    """Return half widths from deviations that divide the sum of squares by ``count``."""
    ratio = 1 / (1 + PRIOR * count)
    bound = (alpha**2 * ratio) ** (-1 / count)
    room = 1 - bound * ratio
    squared = (bound - 1) / np.where(room > 0, room, 1.0)
    return np.where(room > 0, deviation * np.sqrt(squared), np.inf)


def looks(values: Sequence[float], alpha: float, span: float = math.inf) -> tuple[Look, ...]:
    """Return the mean and its interval that is valid at any time after each of some values."""
    means = np.cumsum(values) / np.arange(1, len(values) + 1)
    halves = half_widths(np.array(values), alpha)
    found = []
    for seeds, (mean, half) in enumerate(zip(means.tolist(), halves.tolist(), strict=True), 1):
        ends = (max(mean - half, -span), min(mean + half, span)) if half < math.inf else (None,) * 2
        found.append(Look(seeds, mean, *ends))
    return tuple(found)


def p_value(values: Sequence[float]) -> float:
    """Return 1 / ``E_n`` of all values for a mean of 0, at most 1."""
    count, squares = len(values), float(np.sum(np.square(values)))
    if not squares:
        return 1.0
    ratio = 1 / (1 + PRIOR * count)
    share = min(float(np.sum(values)) ** 2 / (count * squares), 1.0)
    log_evidence = (math.log(ratio) - count * math.log1p(-(1 - ratio) * share)) / 2
    return math.exp(-max(log_evidence, 0.0))


def seeds_needed(
    mean: float, deviation: float, alpha: float, margin: float, counts: range
) -> int | None:
    """Return the first of ``counts`` whose interval excludes 0 or is within ``margin``.

    ``mean`` and ``deviation`` are taken to stay as they are.
    """
    seeds = np.array(counts)
    half = _times_deviation(deviation * np.sqrt(1 - 1 / seeds), seeds, alpha)
    resolved = (half < abs(mean)) | (half + abs(mean) <= margin)
    return int(seeds[resolved.argmax()]) if resolved.any() else None
