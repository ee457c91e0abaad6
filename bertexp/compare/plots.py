"""A comparison's plots as PNGs, as a paper prints them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from bertexp.compare import figures
from bertexp.compare.figures import Drawn
from bertexp.compare.metric_plot import colour, metric_figure
from bertexp.compare.results import Comparison
from bertexp.compare.windows import curve_window
from bertexp.compare.wording import UNITS, axis, decimals
from bertexp.console import compact, number
from bertexp.plotting import FAINT, HEAT, HUES, INK, LINES, STYLE, legend, save

# What fits in a legend and what in a heat map, before it cannot be read.
MOST_NAMED, MOST_ANNOTATED = 12, 25


def write_plots(comparison: Comparison, folder: Path) -> list[Path]:
    """Write a comparison's plots and return their paths: those that there are numbers for.

    ``metric.png``: the metric against the swept key, with 95% intervals and the single runs.
    ``curves.png``: the metric over the budget, mean over seeds, the seeds faint.
    ``rates.png``: losses by evaluation rate as a heat map of what is lost to the best.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plots: dict[str, Callable[[Comparison], Figure | None]] = {
        "metric.png": metric_figure,
        "curves.png": curves_figure,
        "rates.png": rates_figure,
    }
    written = []
    with matplotlib.rc_context(STYLE):
        for file, draw in plots.items():
            if figure := draw(comparison):
                written.append(save(figure, folder / file))
    return written


def curves_figure(comparison: Comparison) -> Figure | None:
    """Return the learning curves, or None where no run has two evaluations."""
    settings = [
        s
        for s in figures.drawn(comparison)
        if max((len(figures.finite_curve(run)) for run in s.runs), default=0) > 1
    ]
    if not settings:
        return None
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    # The first are the best, where settings are ranked: they lie on top.
    for s in reversed(settings):
        look = {"color": colour(s)}
        for run in s.runs:
            axes.plot(*_columns(figures.finite_curve(run)), **look, lw=0.7, alpha=0.3)
        axes.plot(*_columns(s.mean_curve), LINES[s.style], **look, lw=2)
    axes.set_ylim(curve_window(settings))
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: compact(x)))
    axes.set_xlabel(UNITS[comparison.at])
    axes.set_ylabel(axis(comparison.metric))
    if comparison.budget is not None:
        axes.axvline(comparison.budget, color=FAINT, lw=1, ls=(0, (2, 2)))
    named = _named(settings)
    handles = [Line2D([], [], ls=LINES[s.style], lw=2, color=colour(s)) for s in named]
    title = comparison.keys[0] if len(comparison.keys) == 1 else None
    legend(figure, handles, [s.name for s in named], title)
    return figure


def _named(settings: Sequence[Drawn]) -> Sequence[Drawn]:
    """Return the settings a legend names: those with a hue, some of a long ramp."""
    if settings[0].ramp is None:
        return [s for s in settings if s.hue < len(HUES)]
    if len(settings) <= MOST_NAMED:
        return settings
    return [settings[i * (len(settings) - 1) // 7] for i in range(8)]


def rates_figure(comparison: Comparison) -> Figure | None:
    """Return the losses by evaluation rate, or None where there are none to compare."""
    found = figures.rates(comparison)
    if found is None:
        return None
    excess = [[math.nan if x is None else x for x in row] for row in found.excess]
    names = [label for label, _ in found.rows]
    longest = max(map(len, names))
    width, height = 2.4 + 0.08 * longest + 0.9 * len(found.rates), 1.5 + 0.38 * len(names)
    figure = Figure(figsize=(width, min(max(height, 2.8), 11)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(excess, cmap=HEAT, vmin=0, aspect="auto")
    if len(found.rows) <= MOST_ANNOTATED:
        _annotate(axes, found, excess, decimals(comparison))
    axes.set_xticks(range(len(found.rates)), [f"{rate:g}" for rate in found.rates])
    # Of very many rows every second or third is labelled.
    step = math.ceil(len(names) / MOST_ANNOTATED)
    axes.set_yticks(range(0, len(names), step), names[::step])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    axes.set_xlabel("evaluation rate")
    axes.set_ylabel(comparison.keys[0] if len(comparison.keys) == 1 else "")
    bar = figure.colorbar(image, label="nats above the lowest", aspect=15)
    bar.outline.set_visible(False)
    return figure


def _annotate(
    axes: Axes, found: figures.Rates, excess: Sequence[Sequence[float]], digits: int
) -> None:
    """Write the loss into every cell, the lowest of a column in bold."""
    highest = max((x for row in excess for x in row if not math.isnan(x)), default=0.0)
    for y, (_, losses) in enumerate(found.rows):
        for x, loss in enumerate(losses):
            axes.text(
                x,
                y,
                number(loss, min(digits, 3)),
                ha="center",
                va="center",
                color="white" if excess[y][x] > 0.6 * highest else INK,
                weight="bold" if excess[y][x] == 0 else "normal",
            )


def _columns(curve: figures.Curve) -> tuple[list[float], list[float]]:
    return [x for x, _ in curve], [y for _, y in curve]
