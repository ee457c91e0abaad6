"""What is known of a metric from its name: which way is better, its unit and its range."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True)
class Metric:
    """How a metric's values are read.

    Attributes:
        lower_is_better: whether a lower value is a better one.
        unit: of its values, empty where they have none.
        low, high: the ends of the range that no value leaves.
    """

    lower_is_better: bool = False
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf


SHARE = Metric(low=0.0, high=1.0)
CORRELATION = Metric(low=-1.0, high=1.0)
PERPLEXITY = Metric(lower_is_better=True, low=1.0)

# By the end of a metric's name, without its prefix and its condition: `nsp_accuracy` in
# `eval/nsp_accuracy@swap` ends in `accuracy`.
METRICS = {
    "loss": Metric(lower_is_better=True, unit="nats", low=0.0),
    "perplexity": PERPLEXITY,
    "calibration_error": Metric(lower_is_better=True, low=0.0, high=1.0),
    "accuracy": SHARE,
    "f1": SHARE,
    "matthews": CORRELATION,
    "pearson": CORRELATION,
    "spearman": CORRELATION,
}
# Every metric below these is an accuracy, whatever it is called.
ACCURACIES = ("eval/probe/", "eval/nsp_shortcut")


def describe(name: str) -> Metric:
    """Return what is known of a metric; one that is not in the table has no unit and no range."""
    if name.startswith(ACCURACIES):
        return SHARE
    stem = name.partition("@")[0].rpartition("/")[2]
    ends = (known for end, known in METRICS.items() if stem == end or stem.endswith(f"_{end}"))
    return next(ends, Metric())


def wilson(share: float, count: int) -> tuple[float, float]:
    """Return the 95% interval of a share of ``count`` independent answers (Wilson 1927)."""
    z = NormalDist().inv_cdf(0.975)
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count**2)) ** 0.5
    return max(centre - half, 0.0), min(centre + half, 1.0)


def margin(share: float, count: int) -> float:
    """Return half the width of a share's 95% interval, see ``wilson``."""
    low, high = wilson(share, count)
    return (high - low) / 2


def known_to(name: str, value: float, answered: Mapping[str, int]) -> str:
    """Return an accuracy's 95% interval and its number of examples; nothing for another metric.

    Args:
        name: the metric's.
        value: its value.
        answered: the number of examples of each accuracy, by name.
    """
    if not answered.get(name) or math.isnan(value):
        return ""
    low, high = wilson(value, answered[name])
    return f"{low:.3f} to {high:.3f} ({answered[name]:,})"
