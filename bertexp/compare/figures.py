"""The numbers, names and colours that both the plots and the page draw."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bertexp.compare.results import ComparedRun, Results, Setting
from bertexp.compare.settings import in_order, short_keys
from bertexp.console import shortened_apart, value_text
from bertexp.validation import is_number

RATE_PREFIX = "eval/loss@"
# The number of distinct line styles and markers; with more series, every setting is a row.
MOST_SERIES = 4
# Learning curves fall steeply at first, which would hide their differences.
STEEP_PART = 0.3

Curve = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Drawn:
    """A setting as it is drawn everywhere.

    Attributes:
        name: its label, without the key where there is only one; as short as tells it from others.
        x: its value of the key on the x axis, None where settings are rows instead.
        style: the number of its series, for line style and marker.
        ramp: its place on a ramp of colours, 0 to 1, where the key is numeric, else None.
    """

    setting: Setting
    runs: tuple[ComparedRun, ...]
    name: str
    x: float | None
    series: str
    style: int
    hue: int
    ramp: float | None
    mean_curve: Curve

    @property
    def values(self) -> list[float]:
        return [run.value for run in self.runs if run.value is not None]

    @property
    def has_curve(self) -> bool:
        return any(len(run.curve) > 1 for run in self.runs)


def drawn(comparison: Results) -> list[Drawn]:
    """Return the settings in the order of their values, or as they come where no key is numeric."""
    keys, key = comparison.keys, x_key(comparison)
    others = [k for k in keys if k != key] if key else []
    settings = list(comparison.settings)
    if key:
        settings.sort(key=lambda s: in_order({k: s.values.get(k) for k in (*others, key)}))
    places = sorted({_place(s, key) for s in settings}) if key else []
    series = list(dict.fromkeys(_series(s, others) for s in settings))
    shared = f"{comparison.heading}=" if len(keys) == 1 else ""
    plain = [s.label.removeprefix(shared) for s in settings]
    if len(comparison.runs) == 1:
        plain = [comparison.runs[0].name]
    names = shortened_apart(plain)
    found = []
    for number, (setting, name) in enumerate(zip(settings, plain, strict=True)):
        runs = tuple(run for run in comparison.runs if run.setting == setting.label)
        rank = places.index(_place(setting, key)) if key else number
        style = series.index(_series(setting, others))
        found.append(
            Drawn(
                setting=setting,
                runs=runs,
                name=names[name],
                x=_place(setting, key) if key else None,
                series=series[style],
                style=style,
                hue=rank,
                ramp=rank / max(len(places) - 1, 1) if key else None,
                mean_curve=_mean_curve(runs),
            )
        )
    return found


def x_key(comparison: Results) -> str | None:
    """Return the numeric key that belongs on an x axis: the one with the most values.

    None where no key is numeric, or the others have too many values to tell apart.
    """
    settings = comparison.settings
    numeric = [k for k in comparison.keys if all(is_number(s.values.get(k)) for s in settings)]
    if not numeric:
        return None
    key = max(numeric, key=lambda k: len({s.values[k] for s in settings}))
    series = {_series(s, [k for k in comparison.keys if k != key]) for s in settings}
    return key if len(series) <= MOST_SERIES else None


def is_logarithmic(places: Iterable[float]) -> bool:
    places = list(places)
    return min(places) > 0 and max(places) / min(places) >= 100


@dataclass(frozen=True)
class Rates:
    """Losses at the end of runs, by setting and evaluation rate; NaN for missing ones."""

    rates: list[float]
    names: list[str]
    losses_SR: np.ndarray

    @property
    def excess_SR(self) -> np.ndarray:
        return self.losses_SR - np.nanmin(self.losses_SR, axis=0)


def rates(comparison: Results) -> Rates | None:
    """Return the losses by evaluation rate of the settings, or None with fewer than two of either.

    Only finished runs count: the others were evaluated before their end.
    """
    ended = {
        s.name: metrics
        for s in drawn(comparison)
        if (metrics := [run.metrics for run in s.runs if run.status == "finished"])
    }
    names = {name for runs in ended.values() for metrics in runs for name in metrics}
    found = sorted(rate for name in names if (rate := _rate(name)) is not None)
    if len(found) < 2 or len(ended) < 2:
        return None
    losses = [
        [_mean([m[n] for m in runs if n in m]) for n in (f"{RATE_PREFIX}{r:g}" for r in found)]
        for runs in ended.values()
    ]
    return Rates(found, [*ended], np.array(losses))


def _rate(metric: str) -> float | None:
    """Return the evaluation rate a metric is named for, None for a slice or another metric."""
    try:
        return float(metric.removeprefix(RATE_PREFIX)) if metric.startswith(RATE_PREFIX) else None
    except ValueError:
        return None


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else np.nan


def _mean_curve(runs: Iterable[ComparedRun]) -> Curve:
    """Return the mean of learning curves over what all of them have spent.

    Runs that have no value at the common budget do not count where others have one: a run
    that failed early would cut the mean short. Between evaluations a curve is a straight line.
    """
    runs = [run for run in runs if run.curve]
    runs = [run for run in runs if run.value is not None] or runs
    if not runs:
        return ()
    first = max(run.curve[0][0] for run in runs)
    last = min(run.curve[-1][0] for run in runs)
    places = sorted({x for run in runs for x, _ in run.curve if first <= x <= last})
    values = [np.interp(places, *np.array(run.curve).T) for run in runs]
    return tuple(zip(places, np.mean(values, axis=0).tolist(), strict=True)) if places else ()


def _place(setting: Setting, key: str) -> float:
    value = setting.values[key]
    assert isinstance(value, int | float)
    return value


def _series(setting: Setting, keys: Iterable[str]) -> str:
    brief = short_keys([*setting.values])
    return ", ".join(f"{brief[key]}={value_text(setting.values.get(key))}" for key in keys)


def window(values: Sequence[float], bounds: Iterable[float | None]) -> tuple[float, float]:
    """Return the range to draw: all values, and the bounds of intervals as far as fits.

    The interval of two seeds is thirteen standard errors wide on either side: it may be
    cut, rather than flatten everything else.
    """
    low, high = min(values), max(values)
    span = high - low or max(abs(high), 1e-9) * 0.05
    ends = [bound for bound in bounds if bound is not None]
    return (
        max(min([low, *ends]), low - 0.75 * span) - 0.06 * span,
        min(max([high, *ends]), high + 0.75 * span) + 0.06 * span,
    )


def metric_window(settings: Sequence[Drawn]) -> tuple[float, float]:
    means = [s.setting.mean for s in settings if s.setting.mean is not None]
    runs = [value for s in settings for value in s.values]
    return window(means + runs, [b for s in settings for b in (s.setting.low, s.setting.high)])


def curve_window(settings: Sequence[Drawn]) -> tuple[float, float]:
    """Return the range of the metric to draw learning curves in.

    Of several settings it leaves out their steep beginning.
    """
    curves = [c for s in settings for c in (s.mean_curve, *(run.curve for run in s.runs)) if c]
    start = STEEP_PART * max(curve[-1][0] for curve in curves) if len(settings) > 1 else 0.0
    values = [y for curve in curves for x, y in curve if x >= start]
    margin = 0.05 * (max(values) - min(values)) or abs(max(values)) * 0.05 or 1.0
    return min(values) - margin, max(values) + margin
