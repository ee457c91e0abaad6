"""The rows of the page's tables: a setting each, with its intervals as bars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bertexp.compare.abilities import by_metric, is_probe
from bertexp.compare.figures import Drawn
from bertexp.compare.results import Ability, Comparison, Difference, Setting
from bertexp.compare.settings import ALL_RUNS, short_keys
from bertexp.compare.windows import metric_window, window
from bertexp.console import finite, value_text

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
    columns = [
        _cells(known, comparison.baseline) for known in by_metric(comparison.abilities).values()
    ]
    rows = []
    for setting in comparison.settings:
        difference = differences.get(setting.label)
        rows.append(
            Row(
                setting=setting,
                name=setting.label,
                named="" if _described(setting) == setting.label else setting.label,
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


def _described(setting: Setting) -> str:
    """Return a setting's label without a name of the user's."""
    brief = short_keys([*setting.values])
    return ", ".join(f"{brief[k]}={value_text(v)}" for k, v in setting.values.items()) or ALL_RUNS


def _cells(known: Mapping[str, Ability], baseline: str | None) -> dict[str, Cell]:
    """Return a column: what the settings can do in one respect, on a scale of their own."""
    found = known.values()
    drawn = window(
        [value for one in found for value in (one.mean, one.lowest, one.highest)],
        [bound for one in found for bound in (one.low, one.high)],
    )
    best = max(one.mean for one in found)
    compared_with = known.get(baseline or "")
    return {
        one.setting: Cell(
            found=one,
            bar=_bar(one, drawn, compared_with.mean if compared_with else None),
            is_best=len(known) > 1 and one.mean == best,
            is_finetuned=not is_probe(one.metric),
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
