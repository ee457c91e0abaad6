"""The ranges that plots and the page draw: what matters, and no more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bertexp.compare.figures import Drawn, finite_curve
from bertexp.console import finite

# Learning curves fall steeply first: that part would leave no room for the differences.
STEEP_PART = 0.3


def window(values: Sequence[float], bounds: Iterable[float | None]) -> tuple[float, float]:
    """Return the range to draw: all values, and the bounds of intervals as far as fits.

    The interval of two seeds is thirteen standard errors wide on either side: it may be
    cut, rather than everything else be pressed flat.
    """
    low, high = min(values), max(values)
    span = high - low or max(abs(high), 1e-9) * 0.05
    ends = [bound for bound in bounds if bound is not None and finite(bound) is not None]
    return (
        max(min([low, *ends]), low - 0.75 * span) - 0.06 * span,
        min(max([high, *ends]), high + 0.75 * span) + 0.06 * span,
    )


def metric_window(settings: Iterable[Drawn]) -> tuple[float, float]:
    """Return the range of the metric to draw: of all means, runs and intervals."""
    values: list[float] = []
    bounds: list[float | None] = []
    for entry in settings:
        setting = entry.setting
        values += [mean for mean in (finite(setting.mean),) if mean is not None] + entry.values
        bounds += (setting.low, setting.high)
    return window(values, bounds)


def curve_window(settings: Iterable[Drawn]) -> tuple[float, float]:
    """Return the range of the metric to draw learning curves in: without their steep beginning."""
    curves = [c for s in settings for c in (s.mean_curve, *(finite_curve(r) for r in s.runs)) if c]
    start = STEEP_PART * max(curve[-1][0] for curve in curves)
    values = [y for curve in curves for x, y in curve if x >= start]
    margin = 0.05 * (max(values) - min(values)) or abs(max(values)) * 0.05 or 1.0
    return min(values) - margin, max(values) + margin
