"""A comparison's page: one HTML file that needs no network and no other file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bertexp.compare import abilities, figures, wording
from bertexp.compare.figures import Curve, Drawn, Rates
from bertexp.compare.page_rows import effect_rows, paint, setting_rows
from bertexp.compare.results import ComparedRun, Comparison
from bertexp.compare.settings import short_keys
from bertexp.compare.windows import curve_window, metric_window
from bertexp.console import finite, number, plural
from bertexp.pages import render_page

ASSETS = Path(__file__).parent / "assets"
STATUS_MARKS = {"finished": "●", "running": "◐", "interrupted": "■", "failed": "✕", "killed": "✕"}


def write_page(comparison: Comparison, folder: Path) -> Path:
    """Write ``compare.html`` into a folder and return its path.

    The page holds its style, its script and the numbers, and asks the network for nothing.
    Its tables are there without JavaScript; names and texts of runs are shown as they are,
    whatever they contain.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "compare.html"
    path.write_text(render(comparison), encoding="utf-8")
    return path


def render(comparison: Comparison) -> str:
    """Return the page's HTML."""
    settings, rates = figures.drawn(comparison), figures.rates(comparison)
    found = comparison.abilities
    metrics = [*abilities.by_metric(found)]
    return render_page(
        ASSETS,
        styles=("page.css",),
        scripts=("page.js", "charts.js"),
        filters={
            "number": number,
            "p_value": wording.p_value,
            "plural": plural,
            "finite": _plain,
        },
        comparison=comparison,
        headline=wording.headline(comparison),
        examples=wording.example_by_example(comparison.examples) if comparison.examples else "",
        circumstances=wording.circumstances(comparison),
        baseline=wording.short_names(comparison).get(comparison.baseline or "", ""),
        digits=wording.decimals(comparison),
        unit=wording.unit(comparison.metric),
        brief=short_keys(comparison.keys),
        rows=setting_rows(comparison, settings),
        effects=effect_rows(comparison.effects),
        abilities=metrics,
        yardsticks=abilities.yardstick_rows(comparison, metrics),
        explained=abilities.explained(comparison),
        with_median=not all(abilities.is_probe(one.metric) for one in found),
        decimals=abilities.DECIMALS,
        tested=comparison.ranked and bool(comparison.differences),
        rates=rates.rates if rates else (),
        heat=_heat(rates) if rates else [],
        marks=STATUS_MARKS,
        data=_data(comparison, settings),
    )


def _heat(rates: Rates) -> list[tuple[str, list[tuple[float | None, float | None]]]]:
    """Return every row's losses with their heat: the excess in percent of the largest one."""
    largest = max((x for row in rates.excess for x in row if x), default=1.0)
    return [
        (
            label,
            [
                (x, None if e is None else 100 * e / largest)
                for x, e in zip(losses, row, strict=True)
            ],
        )
        for (label, losses), row in zip(rates.rows, rates.excess, strict=True)
    ]


def _data(comparison: Comparison, settings: Sequence[Drawn]) -> dict[str, Any]:
    """Return what the script draws, as plain values; what is not a number is None."""
    measured = [s for s in settings if finite(s.setting.mean) is not None]
    with_curve = [s for s in settings if any(len(figures.finite_curve(r)) > 1 for r in s.runs)]
    places = [s.x for s in measured if s.x is not None]
    return {
        "metric": wording.axis(comparison.metric),
        "digits": wording.decimals(comparison),
        "at": wording.UNITS[comparison.at],
        "budget": finite(comparison.budget),
        "baseline": comparison.baseline,
        "key": figures.x_key(comparison),
        "logarithmic": bool(places) and figures.is_logarithmic(places),
        "metricWindow": metric_window(measured) if len(measured) > 1 else None,
        "curveWindow": curve_window(with_curve) if with_curve else None,
        "settings": [_setting_data(s) for s in settings],
    }


def _setting_data(s: Drawn) -> dict[str, Any]:
    return {
        "label": s.setting.label,
        "name": s.name,
        "series": s.series,
        "style": s.style,
        "paint": paint(s),
        "x": s.x,
        "mean": finite(s.setting.mean),
        "low": finite(s.setting.low),
        "high": finite(s.setting.high),
        "curve": _points(s.mean_curve),
        "runs": [_run_data(run) for run in s.runs],
    }


def _run_data(run: ComparedRun) -> dict[str, Any]:
    curve = _points(figures.finite_curve(run))
    return {"seed": run.seed, "value": finite(run.value), "curve": curve}


def _points(curve: Curve) -> list[tuple[float, float]]:
    """Return a curve with the digits that can be seen: a page of many runs stays small."""
    return [(float(f"{x:.6g}"), float(f"{y:.6g}")) for x, y in curve]


def _plain(value: float | None) -> str:
    """Return a number to sort by, nothing for a missing one."""
    return "" if finite(value) is None else repr(value)
