"""A comparison's plots as PNGs, in the style of a paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter
from matplotlib.transforms import ScaledTranslation

from bertexp.compare import figures
from bertexp.compare.budgets import UNITS
from bertexp.compare.figures import Drawn, curve_window, metric_window
from bertexp.compare.results import Results
from bertexp.compare.wording import decimals
from bertexp.console import compact, number
from bertexp.plotting import (
    FAINT,
    HEAT,
    HUES,
    INK,
    LINES,
    MARKERS,
    OTHERS,
    RAMP,
    drawing,
    legend,
    save,
)
from bertexp.validation import UserError

# The most entries of a legible legend, and rows of a heat map.
MOST_NAMED, MOST_ANNOTATED = 12, 25


def write_plots(comparison: Results, folder: Path) -> list[Path]:
    """Write the plots that a comparison has numbers for; returns their paths.

    ``metric.png``: the metric against the swept key, with 95% intervals and the single runs.
    ``curves.png``: the metric over the budget, mean over seeds, the seeds faint.
    ``rates.png``: losses by evaluation rate as a heat map of what is lost to the best.
    """
    with drawing():
        return [
            save(figure, folder / f"{name}.png")
            for name, draw in PLOTS.items()
            if (figure := draw(comparison))
        ]


def save_figure(comparison: Results, path: Path) -> None:
    """Write the metric of every setting to a PDF, SVG or PNG; of a single one its curves.

    Raises:
        UserError: there is nothing to draw, or the file cannot be written.
    """
    with drawing():
        figure = metric_figure(comparison) or curves_figure(comparison)
        if figure is None:
            raise UserError(f"--save {path}: no run has {comparison.metric} yet.")
        try:
            save(figure, path)
        except OSError as error:
            raise UserError(f"--save {path}: cannot be written ({error.strerror}).") from error


def metric_figure(comparison: Results) -> Figure | None:
    """Return the metric of every setting, or None with fewer than two that have it."""
    settings = [s for s in figures.drawn(comparison) if s.setting.mean is not None]
    if len(settings) < 2:
        return None
    key = figures.x_key(comparison)
    height = 4.2 if key else 1.5 + 0.34 * len(settings)
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.add_subplot()
    window = metric_window(settings)
    if key:
        _against_key(axes, settings, key)
        axes.set(ylim=window, ylabel=comparison.axis)
    else:
        _as_rows(axes, settings)
        axes.set(xlim=window, xlabel=comparison.axis)
        axes.set_ylabel(_heading(comparison))
    bounds = [b for s in settings for b in (s.setting.low, s.setting.high) if b is not None]
    cut = any(not window[0] <= bound <= window[1] for bound in bounds)
    notes = " for a single look" * comparison.anytime + " (cut at the edge)" * cut
    parts = [f"bars: 95% intervals{notes}, dots: single runs"]
    for s in settings:
        if s.setting.label == comparison.baseline and s.setting.mean is not None:
            line = axes.axhline if key else axes.axvline
            line(s.setting.mean, color=FAINT, lw=1, ls=(0, (4, 3)), zorder=1)
            parts.append(f"dashed: baseline {s.name}")
    figure.suptitle("; ".join(parts), x=0.01, ha="left", fontsize=8.5, color=FAINT)
    return figure


def colour(s: Drawn) -> Any:
    if s.ramp is not None:
        return RAMP(s.ramp)
    return HUES[s.hue] if s.hue < len(HUES) else OTHERS


def _against_key(axes: Axes, settings: Sequence[Drawn], key: str) -> None:
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
    for row, s in enumerate(settings):
        _draw(axes, s, row, upright=False)
    axes.set_yticks(range(len(settings)), [s.name for s in settings])
    axes.set_ylim(len(settings) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")


def _draw(axes: Axes, s: Drawn, place: float, *, upright: bool, shift: float = 0.0) -> None:
    """Draw a setting, moved ``shift`` points along the axis; its runs stand five points aside."""

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
    if setting.low is not None and setting.high is not None:
        draw([setting.low, setting.high], "-", lw=1.8, solid_capstyle="butt")
    draw([setting.mean or 0.0], MARKERS[s.style], ms=7, mec="white", mew=0.8)


def _figure(axes: Axes) -> Figure:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


def curves_figure(comparison: Results) -> Figure | None:
    """Return the learning curves, or None where no run has two evaluations."""
    settings = [s for s in figures.drawn(comparison) if s.has_curve]
    if not settings:
        return None
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    # If settings are ranked, the first are the best: they are drawn on top.
    for s in reversed(settings):
        look = {"color": colour(s)}
        for run in s.runs:
            axes.plot(*zip(*run.curve, strict=True), **look, lw=0.7, alpha=0.3)
        axes.plot(*zip(*s.mean_curve, strict=True), LINES[s.style], **look, lw=2)
    axes.set_ylim(curve_window(settings))
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: compact(x)))
    axes.set_xlabel(UNITS[comparison.at].words)
    axes.set_ylabel(comparison.axis)
    if comparison.budget is not None:
        axes.axvline(comparison.budget, color=FAINT, lw=1, ls=(0, (2, 2)))
    named = _named(settings)
    handles = [Line2D([], [], ls=LINES[s.style], lw=2, color=colour(s)) for s in named]
    legend(figure, handles, [s.name for s in named], _heading(comparison) or None)
    return figure


def _named(settings: Sequence[Drawn]) -> Sequence[Drawn]:
    if settings[0].ramp is None:
        return [s for s in settings if s.hue < len(HUES)]
    if len(settings) <= MOST_NAMED:
        return settings
    return [settings[i * (len(settings) - 1) // 7] for i in range(8)]


def rates_figure(comparison: Results) -> Figure | None:
    found = figures.rates(comparison)
    if found is None:
        return None
    names, digits = found.names, min(decimals(comparison), 3)
    longest = max(map(len, names))
    width, height = 2.4 + 0.08 * longest + 0.9 * len(found.rates), 1.5 + 0.38 * len(names)
    figure = Figure(figsize=(width, min(max(height, 2.8), 11)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(found.excess_SR, cmap=HEAT, vmin=0, aspect="auto")
    if len(names) <= MOST_ANNOTATED:
        highest = np.nanmax(found.excess_SR)
        for (y, x), excess in np.ndenumerate(found.excess_SR):
            # The lowest of a column is bold.
            text = axes.text(
                x, y, number(float(found.losses_SR[y, x]), digits), ha="center", va="center"
            )
            text.set_color("white" if excess > 0.6 * highest else INK)
            text.set_fontweight("bold" if excess == 0 else "normal")
    axes.set_xticks(range(len(found.rates)), [f"{rate:g}" for rate in found.rates])
    # Of very many rows every second or third is labelled.
    step = math.ceil(len(names) / MOST_ANNOTATED)
    axes.set_yticks(range(0, len(names), step), names[::step])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    axes.set_xlabel("evaluation rate")
    axes.set_ylabel(_heading(comparison))
    bar = figure.colorbar(image, label="nats above the lowest", aspect=15)
    bar.outline.set_visible(False)
    return figure


def _heading(comparison: Results) -> str:
    return comparison.heading if len(comparison.keys) == 1 else ""


PLOTS = {"metric": metric_figure, "curves": curves_figure, "rates": rates_figure}
