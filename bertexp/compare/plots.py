"""A comparison's plots as PNGs, as a paper prints them: dark on white, colour-blind safe."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter
from matplotlib.transforms import ScaledTranslation

from bertexp.compare import figures
from bertexp.compare.figures import Drawn
from bertexp.compare.results import Comparison
from bertexp.compare.wording import UNITS, axis, compact, decimals, finite, number

INK, FAINT, OTHERS, GRID = "#222222", "#767676", "#b0b0b0", "#e6e6e6"
# Okabe and Ito (2008), but for their yellow, which white swallows.
HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")
# The part of ``plasma`` that stands out from white: darker is less in print, too.
RAMP = LinearSegmentedColormap.from_list(
    "ramp", [matplotlib.colormaps["plasma"](x) for x in (0.0, 0.2, 0.4, 0.6, 0.78)]
)
HEAT = LinearSegmentedColormap.from_list("heat", ["#ffffff", "#f4c7a1", "#d9793f", "#9c3a10"])
BASELINE: dict[str, Any] = {"color": FAINT, "lw": 1, "ls": (0, (4, 3)), "zorder": 1}
LINES, MARKERS = ("-", "--", ":", "-."), "osD^"
# What fits in a legend, a heat map's cell and a label before they are a burden.
MOST_NAMED, MOST_ANNOTATED, LONGEST_LABEL = 12, 25, 44

STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    # A label is text: a dollar sign in it begins no formula.
    "text.parse_math": False,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.dpi": 200,
}


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
                figure.savefig(folder / file, metadata={"Software": None})
                written.append(folder / file)
    return written


def metric_figure(comparison: Comparison) -> Figure | None:
    """Return the metric of every setting, or None with fewer than two that have it."""
    settings = [s for s in figures.drawn(comparison) if finite(s.setting.mean) is not None]
    if len(settings) < 2:
        return None
    key = figures.x_key(comparison)
    height = 4.2 if key else 1.5 + 0.34 * len(settings)
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.add_subplot()
    if key:
        _against_key(axes, settings, key)
    else:
        _as_rows(axes, settings, comparison)
    low, high = figures.metric_window(settings)
    if key:
        axes.set(ylim=(low, high), ylabel=axis(comparison.metric))
    else:
        axes.set(xlim=(low, high), xlabel=axis(comparison.metric))
    parts = ["bars: 95% intervals, dots: single runs"]
    for s in settings:
        if s.setting.label == comparison.baseline:
            (axes.axhline if key else axes.axvline)(s.setting.mean, **BASELINE)
            parts.append(f"dashed: baseline {shortened(s.name)}")
    figure.suptitle("; ".join(parts), x=0.01, ha="left", fontsize=8.5, color=FAINT)
    return figure


def _against_key(axes: Axes, settings: Sequence[Drawn], key: str) -> None:
    """Draw means over a numeric axis, a line for every series."""
    places = [s.x for s in settings if s.x is not None]
    if figures.is_logarithmic(places):
        axes.set_xscale("log")
    series = {s.style: s.series for s in settings}
    for style in series:
        line = [s for s in settings if s.style == style]
        axes.plot(
            [s.x for s in line], [s.setting.mean for s in line], LINES[style], color=OTHERS, lw=1.2
        )
    for s in settings:
        aside = ScaledTranslation((5 + 7 * s.style) / 72, 0, axes.figure.dpi_scale_trans)  # type: ignore[union-attr]
        base = ScaledTranslation(7 * s.style / 72, 0, axes.figure.dpi_scale_trans)  # type: ignore[union-attr]
        values = [run.value for run in s.runs if finite(run.value) is not None]
        axes.plot([s.x] * len(values), values, transform=axes.transData + aside, **_dots(s))
        shifted = axes.transData + base
        if finite(s.setting.low) is not None:
            axes.plot([s.x] * 2, [s.setting.low, s.setting.high], transform=shifted, **_interval(s))
        axes.plot([s.x], [s.setting.mean], transform=shifted, **_mark(s))
    distinct = sorted(set(places))
    if len(distinct) <= 10:
        axes.set_xticks(distinct)
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.set_xlabel(key)
    axes.grid(visible=False, axis="x")
    if len(series) > 1:
        handles = [
            Line2D([], [], ls=LINES[style], marker=MARKERS[style], color=FAINT) for style in series
        ]
        _legend(axes.figure, handles, list(series.values()), None)  # type: ignore[arg-type]


def _as_rows(axes: Axes, settings: Sequence[Drawn], comparison: Comparison) -> None:
    """Draw a row for every setting, its label beside it."""
    for row, s in enumerate(settings):
        values = [run.value for run in s.runs if finite(run.value) is not None]
        below = axes.transData + ScaledTranslation(0, -5 / 72, axes.figure.dpi_scale_trans)  # type: ignore[union-attr]
        axes.plot(values, [row] * len(values), transform=below, **_dots(s))
        if finite(s.setting.low) is not None:
            axes.plot([s.setting.low, s.setting.high], [row] * 2, **_interval(s))
        axes.plot([s.setting.mean], [row], **_mark(s))
    axes.set_yticks(range(len(settings)), [shortened(s.name) for s in settings])
    axes.set_ylim(len(settings) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    if len(comparison.keys) == 1:
        axes.set_ylabel(comparison.keys[0])


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
        colour, line = _colour(s), LINES[s.style % len(LINES)]
        for run in s.runs:
            axes.plot(*_columns(figures.finite_curve(run)), color=colour, lw=0.7, alpha=0.3)
        axes.plot(*_columns(s.mean_curve), line, color=colour, lw=2)
    axes.set_ylim(figures.curve_window(settings))
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: compact(x)))
    axes.set_xlabel(UNITS[comparison.at])
    axes.set_ylabel(axis(comparison.metric))
    if comparison.budget is not None:
        axes.axvline(comparison.budget, color=FAINT, lw=1, ls=(0, (2, 2)))
    named = _named(settings)
    handles = [Line2D([], [], ls=LINES[s.style], lw=2, color=_colour(s)) for s in named]
    title = comparison.keys[0] if len(comparison.keys) == 1 else None
    _legend(figure, handles, [s.name for s in named], title)
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
    names = [shortened(label) for label, _ in found.rows]
    longest = max(map(len, names))
    width, height = 2.4 + 0.08 * longest + 0.9 * len(found.rates), 1.5 + 0.38 * len(names)
    figure = Figure(figsize=(width, min(height, 11)), layout="constrained")
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
    bar = figure.colorbar(image, label="nats above the column's lowest", aspect=15)
    bar.outline.set_visible(False)  # type: ignore[operator]
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


def shortened(label: str) -> str:
    """Return a label with its middle left out where it is longer than a plot has room for."""
    if len(label) <= LONGEST_LABEL:
        return label
    half = (LONGEST_LABEL - 1) // 2
    return f"{label[:half]}…{label[-half:]}"


def _legend(figure: Figure, handles: list[Line2D], labels: list[str], title: str | None) -> None:
    """Put a legend beside the plot where its labels are short, else below."""
    labels = [shortened(label) for label in labels]
    beside = max(map(len, labels)) <= 14
    place = "outside right upper" if beside else "outside lower center"
    columns = 1 if beside or max(map(len, labels)) > 40 else 2
    if not beside:
        figure.set_figheight(figure.get_figheight() + 0.2 * math.ceil(len(labels) / columns))
    figure.legend(handles, labels, loc=place, title=title, ncols=columns, fontsize=9)


def _columns(curve: figures.Curve) -> tuple[list[float], list[float]]:
    return [x for x, _ in curve], [y for _, y in curve]


def _colour(s: Drawn) -> Any:
    if s.ramp is not None:
        return RAMP(s.ramp)
    return HUES[s.hue] if s.hue < len(HUES) else OTHERS


def _dots(s: Drawn) -> dict[str, Any]:
    return {"ls": "", "marker": "o", "ms": 3.6, "color": _colour(s), "alpha": 0.45, "mew": 0}


def _interval(s: Drawn) -> dict[str, Any]:
    return {"color": _colour(s), "lw": 1.8, "solid_capstyle": "butt"}


def _mark(s: Drawn) -> dict[str, Any]:
    marker = MARKERS[s.style % len(MARKERS)]
    return {"ls": "", "marker": marker, "ms": 7, "color": _colour(s), "mec": "white", "mew": 0.8}
