"""A comparison's page: one HTML file, without a network or other files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from bertexp.compare import abilities, figures, wording
from bertexp.compare.budgets import UNITS
from bertexp.compare.figures import Curve, Drawn, Rates, curve_window, metric_window, window
from bertexp.compare.results import Ability, Difference, Look, Results, Setting
from bertexp.compare.settings import described, short_keys
from bertexp.console import number, plural, value_text
from bertexp.metrics import describe
from bertexp.pages import render_page

ASSETS = Path(__file__).parent / "assets"
STATUS_MARKS = {"finished": "●", "running": "◐", "interrupted": "■", "failed": "✕", "killed": "✕"}
# Colours of a palette, those of ``page.css``; settings beyond them are grey.
HUES = 7

FILTERS: dict[str, Callable[..., Any]] = {
    "number": number,
    "p_value": wording.p_value,
    "plural": plural,
    "plain": lambda value: "" if value is None else repr(value),
    "verdict": wording.verdict,
    "meaning": lambda metric: describe(metric).meaning,
}

# An interval in a table: places in percent of its width.
Bar = dict[str, Any]


def write_page(comparison: Results, folder: Path) -> Path:
    """Write ``compare.html``, whose tables need no JavaScript, and return its path."""
    path = folder / "compare.html"
    path.write_text(render(comparison), encoding="utf-8")
    return path


def render(comparison: Results) -> str:
    settings, rates = figures.drawn(comparison), figures.rates(comparison)
    metrics = [*comparison.by_metric]
    reach = _reach(comparison.effects)
    return render_page(
        ASSETS,
        styles=("page.css",),
        scripts=("page.js", "charts.js"),
        filters=FILTERS,
        comparison=comparison,
        headline=wording.headline(comparison),
        examples=wording.example_by_example(comparison.examples) if comparison.examples else "",
        circumstances=wording.circumstances(comparison),
        digits=wording.decimals(comparison),
        brief=short_keys(comparison.keys),
        rows=_rows(comparison, settings),
        effects=[(effect, _bar(effect, reach, 0.0)) for effect in comparison.effects],
        paths=_paths(comparison),
        names=wording.short_names(comparison),
        abilities=metrics,
        yardsticks=abilities.yardstick_rows(comparison, metrics),
        explained=abilities.explained(comparison),
        with_median=any(map(abilities.is_finetuned, metrics)),
        decimals=abilities.DECIMALS,
        correction=partial(wording.correction, comparison),
        within=wording.within(comparison),
        intervals_of_means=wording.intervals_of_means(comparison),
        rates=rates.rates if rates else (),
        heat=_heat(rates) if rates else [],
        marks=STATUS_MARKS,
        data=_data(comparison, settings),
    )


def _rows(comparison: Results, settings: Sequence[Drawn]) -> list[dict[str, Any]]:
    """Return a row for each setting: against the baseline, and what its encoders can do."""
    as_drawn = {s.setting.label: s for s in settings}
    differences = {d.setting: d for d in comparison.differences}
    measured = [s for s in settings if s.setting.mean is not None]
    limits = metric_window(measured) if measured else (0.0, 1.0)
    reach = _reach(comparison.differences)
    baseline = next((s.mean for s in comparison.settings if s.label == comparison.baseline), None)
    columns = [_cells(known, comparison.baseline) for known in comparison.by_metric.values()]
    rows = []
    for setting in comparison.settings:
        label, difference = setting.label, differences.get(setting.label)
        cells = [cells.get(label) for cells in columns]
        rows.append(
            {
                "setting": setting,
                # A name that the user gave it stands beside its values.
                "named": "" if described(setting.values) == label else label,
                "paint": _paint(as_drawn[label]),
                "values": [value_text(setting.values.get(key)) for key in comparison.keys],
                "is_baseline": label == comparison.baseline,
                "bar": _bar(setting, limits, baseline),
                "difference": difference,
                "difference_bar": difference and _bar(difference, reach, 0.0),
                "abilities": cells,
                # Seeds of the abilities, where they are not of fewer.
                "able": max((cell["found"].seeds for cell in cells if cell), default=0),
            }
        )
    return rows


def _cells(known: Mapping[str, Ability], baseline: str | None) -> dict[str, dict[str, Any]]:
    found = [*known.values()]
    metric = found[0].metric
    limits = window(
        [value for one in found for value in (one.mean, one.lowest, one.highest)],
        [bound for one in found for bound in (one.low, one.high)],
    )
    choose = {"min": min, "max": max}.get(describe(metric).best or "")
    best = choose(one.mean for one in found) if choose and len(found) > 1 else None
    reference = known[baseline].mean if baseline is not None and baseline in known else None
    return {
        one.setting: {
            "found": one,
            "bar": _bar(one, limits, reference),
            "is_best": one.mean == best,
            "is_finetuned": abilities.is_finetuned(metric),
        }
        for one in found
    }


def _reach(differences: Iterable[Difference]) -> tuple[float, float]:
    widest = max((abs(d.mean) for d in differences), default=0.0) or 1.0
    return -2 * widest, 2 * widest


def _bar(
    found: Setting | Difference | Ability, limits: tuple[float, float], reference: float | None
) -> Bar | None:
    """Return an interval as a bar; one that is wider than the limits is cut."""
    if found.mean is None:
        return None
    low, high = found.low, found.high
    if low is None or high is None:
        low = high = found.mean

    def place(value: float) -> float:
        share = (value - limits[0]) / (limits[1] - limits[0])
        return round(100 * min(max(share, 0), 1), 2)

    return {
        "left": place(low),
        "width": round(place(high) - place(low), 2),
        "mean": place(found.mean),
        "reference": None if reference is None else place(reference),
        "cut_left": low < limits[0],
        "cut_right": high > limits[1],
    }


def _paths(comparison: Results) -> list[dict[str, Any]]:
    """Return how each setting's interval narrowed: points of an SVG of 100 by 100, in one scale.

    A difference of 0 is in the middle, ``reach`` at the upper edge.
    """
    known = {label: looks for label, looks in comparison.looks.items() if looks}
    longest = max(map(len, known.values()), default=0)
    last = [looks[-1] for looks in known.values()]
    ends = [end for one in last for end in (one.low, one.high, one.mean) if end is not None]
    reach = 1.25 * max(map(abs, [*ends, comparison.margin])) or 1.0

    def points(found: Iterable[tuple[Look, float | None]]) -> str:
        return " ".join(
            f"{100 * (one.seeds - 1) / max(longest - 1, 1):.2f},"
            f"{50 - 50 * min(max(value / reach, -1), 1):.2f}"
            for one, value in found
            if value is not None
        )

    return [
        {
            "setting": label,
            "seeds": len(looks),
            "reach": reach,
            "band": points([*((x, x.high) for x in looks), *((x, x.low) for x in reversed(looks))]),
            "line": points((x, x.mean) for x in looks),
            "margin": 50 * comparison.margin / reach,
        }
        for label, looks in known.items()
    ]


def _paint(setting: Drawn) -> str:
    if setting.ramp is not None:
        return f"color-mix(in oklch, var(--ramp-end) {100 * setting.ramp:.0f}%, var(--ramp-start))"
    return f"var(--hue-{setting.hue})" if setting.hue < HUES else "var(--others)"


def _heat(rates: Rates) -> list[tuple[str, list[tuple[float | None, float]]]]:
    """Return every row's losses with their heat: the excess in percent of the largest one."""
    heat_SR = 100 * rates.excess_SR / (np.nanmax(rates.excess_SR) or 1.0)
    losses = [[None if isnan(x) else x for x in row] for row in rates.losses_SR.tolist()]
    rows = zip(rates.names, losses, heat_SR.tolist(), strict=True)
    return [(name, [*zip(row, heat, strict=True)]) for name, row, heat in rows]


def _data(comparison: Results, settings: Sequence[Drawn]) -> dict[str, Any]:
    measured = [s for s in settings if s.setting.mean is not None]
    with_curve = [s for s in settings if s.has_curve]
    places = [s.x for s in measured if s.x is not None]
    return {
        "metric": comparison.axis,
        "digits": wording.decimals(comparison),
        "at": UNITS[comparison.at].words,
        "budget": comparison.budget,
        "baseline": comparison.baseline,
        "key": figures.x_key(comparison),
        "logarithmic": bool(places) and figures.is_logarithmic(places),
        "singleLook": comparison.anytime,
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
        "paint": _paint(s),
        "x": s.x,
        "mean": s.setting.mean,
        "low": s.setting.low,
        "high": s.setting.high,
        "curve": _points(s.mean_curve),
        "runs": [
            {"seed": run.seed, "value": run.value, "curve": _points(run.curve)} for run in s.runs
        ],
    }


def _points(curve: Curve) -> list[tuple[float, float]]:
    """Return a curve with the digits that can be seen: a page of many runs stays small."""
    return [(float(f"{x:.6g}"), float(f"{y:.6g}")) for x, y in curve]
