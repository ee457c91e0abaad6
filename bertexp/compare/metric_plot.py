"""The metric of every setting in one picture: against a numeric key, or a row for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter
from matplotlib.transforms import ScaledTranslation

from bertexp.compare import figures
from bertexp.compare.figures import Drawn
from bertexp.compare.results import Comparison
from bertexp.compare.windows import metric_window
from bertexp.compare.wording import axis
from bertexp.console import finite
from bertexp.plotting import FAINT, HUES, LINES, MARKERS, OTHERS, RAMP, legend


def metric_figure(comparison: Comparison) -> Figure | None:
    """Return the metric of every setting, or None with fewer than two that have it."""
    settings = [s for s in figures.drawn(comparison) if finite(s.setting.mean) is not None]
    if len(settings) < 2:
        return None
    key = figures.x_key(comparison)
    height = 4.2 if key else 1.5 + 0.34 * len(settings)
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.add_subplot()
    window = metric_window(settings)
    if key:
        _against_key(axes, settings, key)
        axes.set(ylim=window, ylabel=axis(comparison.metric))
    else:
        _as_rows(axes, settings)
        axes.set(xlim=window, xlabel=axis(comparison.metric))
        axes.set_ylabel(comparison.keys[0] if len(comparison.keys) == 1 else "")
    bounds = [b for s in settings for b in (s.setting.low, s.setting.high) if b is not None]
    cut = any(not window[0] <= bound <= window[1] for bound in bounds)
    parts = [f"bars: 95% intervals{' (cut at the edge)' * cut}, dots: single runs"]
    for s in settings:
        if s.setting.label == comparison.baseline and s.setting.mean is not None:
            line = axes.axhline if key else axes.axvline
            line(s.setting.mean, color=FAINT, lw=1, ls=(0, (4, 3)), zorder=1)
            parts.append(f"dashed: baseline {s.name}")
    figure.suptitle("; ".join(parts), x=0.01, ha="left", fontsize=8.5, color=FAINT)
    return figure


def colour(s: Drawn) -> Any:
    """Return a setting's colour: of the ramp where its key is numeric, else a hue or grey."""
    if s.ramp is not None:
        return RAMP(s.ramp)
    return HUES[s.hue] if s.hue < len(HUES) else OTHERS


def _against_key(axes: Axes, settings: Sequence[Drawn], key: str) -> None:
    """Draw means over a numeric axis, joined by a line for every series."""
    places = {s.setting.label: s.x or 0.0 for s in settings}
    if figures.is_logarithmic(places.values()):
        axes.set_xscale("log")
    series = {s.style: s.series for s in settings}
    for style in series:
        joined = [s for s in settings if s.style == style]
        means = [s.setting.mean or 0.0 for s in joined]
        axes.plot([places[s.setting.label] for s in joined], means, LINES[style], color=OTHERS)
    for s in settings:
        # Series stand beside each other where they share a value.
        _draw(axes, s, places[s.setting.label], upright=True, shift=7 * s.style)
    distinct = sorted(set(places.values()))
    if len(distinct) <= 10:
        axes.set_xticks(distinct)
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.set_xlabel(key)
    axes.grid(visible=False, axis="x")
    axes.margins(x=0.08)
    if len(series) > 1:
        handles = [Line2D([], [], ls=LINES[n], marker=MARKERS[n], color=FAINT) for n in series]
        legend(_figure(axes), handles, list(series.values()))


def _as_rows(axes: Axes, settings: Sequence[Drawn]) -> None:
    """Draw a row for every setting, its label beside it."""
    for row, s in enumerate(settings):
        _draw(axes, s, row, upright=False)
    axes.set_yticks(range(len(settings)), [s.name for s in settings])
    axes.set_ylim(len(settings) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")


def _draw(axes: Axes, s: Drawn, place: float, *, upright: bool, shift: float = 0.0) -> None:
    """Draw a setting's runs, interval and mean at a place of the other axis.

    ``shift`` moves them along that axis, in points; the runs stand five points aside.
    """

    def draw(values: Sequence[float], marker: str, aside: float = 0.0, **look: Any) -> None:
        inches = (shift + aside) / 72
        move = ScaledTranslation(
            inches if upright else 0, 0 if upright else -inches, _figure(axes).dpi_scale_trans
        )
        places = [place] * len(values)
        x, y = (places, values) if upright else (values, places)
        axes.plot(x, y, marker, transform=axes.transData + move, color=colour(s), **look)

    setting = s.setting
    draw(s.values, "o", aside=5, ms=3.6, alpha=0.45, mew=0)
    low, high = finite(setting.low), finite(setting.high)
    if low is not None and high is not None:
        draw([low, high], "-", lw=1.8, solid_capstyle="butt")
    draw([setting.mean or 0.0], MARKERS[s.style], ms=7, mec="white", mew=0.8)


def _figure(axes: Axes) -> Figure:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure
