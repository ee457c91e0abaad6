"""The comparison on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bertexp.compare.abilities import (
    DECIMALS,
    by_metric,
    explained,
    is_probe,
    short,
    yardstick_rows,
)
from bertexp.compare.cells import NEEDED, ability, against, mean, setting_name, verdict_columns
from bertexp.compare.results import Ability, Comparison, Difference
from bertexp.compare.wording import decimals, example_by_example, examples_told, headline, spent
from bertexp.console import MISSING, number, table

PLAIN_WIDTH = 80
SEEDS = "seeds"
# As many as 80 columns have room for.
PROBES_ABREAST = 4
# Effects of a large grid are many: the rest is in compare.json.
MOST_EFFECTS = 16


def render(comparison: Comparison) -> RenderableType:
    """Return the warnings, the answer, the settings and their differences, and odd runs.

    Made for 80 columns.
    """
    parts: list[RenderableType] = [
        *(Text(""), *_warnings(comparison)),
        *(Text(headline(comparison), "bold"), Text("")),
        _settings(comparison),
    ]
    if comparison.effects:
        parts += [Text(""), _effects(comparison)]
    if comparison.examples:
        parts += [Text(""), Text(example_by_example(comparison.examples))]
    parts += [
        *_abilities(comparison),
        Text(""),
        Text(_legend(comparison), "dim"),
        *_unusual(comparison),
    ]
    return Group(*parts)


def _warnings(comparison: Comparison) -> list[RenderableType]:
    grid = Table.grid(padding=(0, 1))
    for line in comparison.warnings:
        grid.add_row("!", Text(line), style="yellow")
    return [grid, Text("")] if comparison.warnings else []


def _settings(comparison: Comparison) -> Table:
    compared = {d.setting: d for d in comparison.differences}
    digits = decimals(comparison)
    key = comparison.keys[0] if len(comparison.keys) == 1 else "setting"
    columns = verdict_columns(comparison.differences)
    needs = NEEDED in columns
    found = table(
        key, SEEDS, comparison.metric, *columns, left=(key, comparison.metric, *columns[:2])
    )
    for setting in comparison.settings:
        cells = [
            setting_name(comparison, setting),
            Text(str(setting.seeds)),
            Text(mean(setting, digits)),
        ]
        if compared:
            is_baseline = setting.label == comparison.baseline
            cells += against(compared.get(setting.label), is_baseline, needs)
        found.add_row(*cells)
    return found


def _effects(comparison: Comparison) -> Table:
    columns = verdict_columns(comparison.effects)
    found = table("effect of", *columns, left=("effect of", *columns[:2]))
    for effect in comparison.effects[:MOST_EFFECTS]:
        found.add_row(Text(effect.setting), *against(effect, False, NEEDED in columns))
    if (left := len(comparison.effects) - MOST_EFFECTS) > 0:
        found.add_row(f"and {left} more", style="dim")
    return found


def _abilities(comparison: Comparison) -> Iterator[RenderableType]:
    """Yield what the encoders can do: a table of the probes, and one for each fine-tuned metric."""
    found = by_metric(comparison.abilities)
    probes = [metric for metric in found if is_probe(metric)]
    for first in range(0, len(probes), PROBES_ABREAST):
        shown = probes[first : first + PROBES_ABREAST]
        columns = [short(metric) for metric in shown]
        probed = _ability_table(comparison, columns, [(found[metric], ability) for metric in shown])
        for name, values in yardstick_rows(comparison, shown):
            probed.add_row(name, *values, style="dim")
        yield from (Text(""), probed)
    for metric in [metric for metric in found if metric not in probes]:
        columns = [SEEDS, short(metric), "median", "lowest", "highest"]
        figures = (_seeds, ability, *(_figure(head) for head in columns[2:]))
        cells = [(found[metric], figure) for figure in figures]
        probed = _ability_table(comparison, columns, cells)
        for name, values in yardstick_rows(comparison, [metric]):
            probed.add_row(name, "", *values, style="dim")
        yield from (Text(""), probed)


def _ability_table(
    comparison: Comparison,
    columns: Sequence[str],
    cells: Sequence[tuple[Mapping[str, Ability], Callable[[Ability, int], str]]],
) -> Table:
    head = comparison.keys[0] if len(comparison.keys) == 1 else "setting"
    made = table(head, *columns, left={head, *columns} - {SEEDS}, fold=(head, *columns))
    for setting in comparison.settings:
        found = [(known.get(setting.label), figure) for known, figure in cells]
        shown = [figure(one, DECIMALS) if one else MISSING for one, figure in found]
        made.add_row(setting_name(comparison, setting), *map(Text, shown))
    return made


def _seeds(found: Ability, _: int) -> str:
    return str(found.seeds)


def _figure(name: str) -> Callable[[Ability, int], str]:
    return lambda found, digits: number(getattr(found, name), digits)


def _legend(comparison: Comparison) -> str:
    parts = []
    if comparison.budget is not None:
        parts.append(
            f"Every run at {spent(comparison.at, comparison.budget)}, on straight lines "
            "between evaluations."
        )
    if any(setting.high is not None for setting in comparison.settings):
        parts.append("± or (low to high): 95% interval over seeds.")
    if told := examples_told(comparison):
        parts.append(f"{told[0].upper()}{told[1:]}.")
    if comparison.differences:
        parts.append(
            f"Differences from {comparison.baseline} in pairs with the same seed; verdicts at "
            f"5%{_together(comparison.differences)}."
        )
    if comparison.effects:
        parts.append(
            "Effects: a key's value against the baseline's, averaged over the other keys; ×: what "
            f"two change together beyond that{_together(comparison.effects)}."
        )
    if any(d.seeds_needed for d in (*comparison.differences, *comparison.effects)):
        parts.append("Seeds needed: for a power of 80%, if difference and spread are as seen.")
    if comparison.abilities:
        parts.append(explained(comparison))
    return " ".join(parts)


def _together(found: Sequence[Difference]) -> str:
    return f" for all {len(found)} together (Holm)" if len(found) > 1 else ""


def _unusual(comparison: Comparison) -> list[RenderableType]:
    """Return the runs that did not finish or do not count, with the reasons."""
    shown = [run for run in comparison.runs if run.error or run.status != "finished"]
    if not shown:
        return []
    rows = [
        (run.setting, "" if run.seed is None else str(run.seed), run.status, run.error or "")
        for run in shown
    ]
    columns = ("runs to know of", "seed", "status", "why")
    left, fold = {*columns} - {"seed"}, (columns[0], "why")
    return [Text(""), table(*columns, left=left, fold=fold, rows=rows)]
