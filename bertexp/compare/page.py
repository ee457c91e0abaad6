"""A comparison's page: one HTML file that needs no network and no other file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertexp.compare import abilities, figures, wording
from bertexp.compare.budgets import UNITS
from bertexp.compare.figures import Curve, Drawn, Rates, curve_window, metric_window, window
from bertexp.compare.results import Ability, ComparedRun, Comparison, Difference, Setting
from bertexp.compare.settings import described, short_keys
from bertexp.console import finite, number, plural, value_text
from bertexp.metrics import describe
from bertexp.pages import render_page

ASSETS = Path(__file__).parent / "assets"
STATUS_MARKS = {"finished": "●", "running": "◐", "interrupted": "■", "failed": "✕", "killed": "✕"}
# Colours of a palette, those of ``page.css``; settings beyond them are grey.
HUES = 7


@dataclass(frozen=True)
class Bar:
    """An interval as a bar in a table: places in percent of its width."""

    left: float
    width: float
    mean: float
    reference: float | None
    cut_left: bool
    cut_right: bool


@dataclass(frozen=True)
class Cell:
    """What the encoders of a setting can do in one respect."""

    found: Ability
    bar: Bar | None
    is_best: bool
    is_finetuned: bool


@dataclass(frozen=True)
class Row:
    """A setting in the tables: what it is against the baseline, and what its encoders can do."""

    setting: Setting
    name: str
    named: str
    paint: str
    values: tuple[str, ...]
    is_baseline: bool
    bar: Bar | None
    difference: Difference | None
    difference_bar: Bar | None
    abilities: tuple[Cell | None, ...]

    @property
    def able(self) -> int:
        """How many seeds the abilities are of, where they are not of fewer."""
        return max((cell.found.seeds for cell in self.abilities if cell), default=0)


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
    metrics = [*comparison.by_metric]
    return render_page(
        ASSETS,
        styles=("page.css",),
        scripts=("page.js", "charts.js"),
        filters={
            "number": number,
            "p_value": wording.p_value,
            "plural": plural,
            "finite": _plain,
            "verdict": wording.verdict,
            "meaning": lambda metric: describe(metric).meaning,
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
        with_median=any(map(abilities.is_finetuned, metrics)),
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
        "at": UNITS[comparison.at].words,
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


def paint(setting: Drawn) -> str:
    """Return the CSS colour of a setting, the same in every table and chart."""
    if setting.ramp is not None:
        return f"color-mix(in oklch, var(--ramp-end) {100 * setting.ramp:.0f}%, var(--ramp-start))"
    return f"var(--hue-{setting.hue})" if setting.hue < HUES else "var(--others)"


def setting_rows(comparison: Comparison, settings: Sequence[Drawn]) -> list[Row]:
    """Return a row for each setting, in the comparison's order.

    Args:
        comparison: what is shown.
        settings: its settings as they are drawn.
    """
    as_drawn = {s.setting.label: s for s in settings}
    differences = {d.setting: d for d in comparison.differences}
    measured = [s for s in settings if finite(s.setting.mean) is not None]
    drawn = metric_window(measured) if measured else (0.0, 1.0)
    reach = _reach(comparison.differences)
    baseline = next((s.mean for s in comparison.settings if s.label == comparison.baseline), None)
    columns = [_cells(known, comparison.baseline) for known in comparison.by_metric.values()]
    rows = []
    for setting in comparison.settings:
        difference = differences.get(setting.label)
        rows.append(
            Row(
                setting=setting,
                name=setting.label,
                named="" if described(setting.values) == setting.label else setting.label,
                paint=paint(as_drawn[setting.label]),
                values=tuple(value_text(setting.values.get(key)) for key in comparison.keys),
                is_baseline=setting.label == comparison.baseline,
                bar=_bar(setting, drawn, baseline),
                difference=difference,
                difference_bar=_bar(difference, reach, 0.0) if difference else None,
                abilities=tuple(cells.get(setting.label) for cells in columns),
            )
        )
    return rows


def effect_rows(effects: Sequence[Difference]) -> list[tuple[Difference, Bar | None]]:
    """Return each effect with its bar."""
    reach = _reach(effects)
    return [(effect, _bar(effect, reach, 0.0)) for effect in effects]


def _cells(known: Mapping[str, Ability], baseline: str | None) -> dict[str, Cell]:
    """Return a column: what the settings can do in one respect, on a scale of their own."""
    found = known.values()
    drawn = window(
        [value for one in found for value in (one.mean, one.lowest, one.highest)],
        [bound for one in found for bound in (one.low, one.high)],
    )
    choose = {"min": min, "max": max}.get(describe(next(iter(found)).metric).best or "")
    best = choose(one.mean for one in found) if choose else None
    compared_with = known.get(baseline or "")
    return {
        one.setting: Cell(
            found=one,
            bar=_bar(one, drawn, compared_with.mean if compared_with else None),
            is_best=len(known) > 1 and one.mean == best,
            is_finetuned=abilities.is_finetuned(one.metric),
        )
        for one in found
    }


def _reach(differences: Iterable[Difference]) -> tuple[float, float]:
    """Return the range of differences to draw: twice the largest to both sides of zero."""
    widest = max((abs(d.mean) for d in differences if finite(d.mean) is not None), default=0.0)
    return -2 * (widest or 1.0), 2 * (widest or 1.0)


def _bar(
    found: Setting | Difference | Ability, drawn: tuple[float, float], reference: float | None
) -> Bar | None:
    """Return an interval as a bar; one that is wider than what is drawn is cut."""
    mean = finite(found.mean)
    if mean is None:
        return None
    low, high = finite(found.low), finite(found.high)
    low, high = (mean, mean) if low is None or high is None else (low, high)

    def place(value: float) -> float:
        share = (value - drawn[0]) / (drawn[1] - drawn[0])
        return round(100 * min(max(share, 0), 1), 2)

    left, right = place(low), place(high)
    return Bar(
        left=left,
        width=round(right - left, 2),
        mean=place(mean),
        reference=None if finite(reference) is None else place(reference or 0.0),
        cut_left=low < drawn[0],
        cut_right=high > drawn[1],
    )
