"""The comparison on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bertexp.compare import wording
from bertexp.compare.abilities import DECIMALS, explained, is_finetuned, yardstick_rows
from bertexp.compare.budgets import spent
from bertexp.compare.results import Ability, Comparison, Difference, Setting
from bertexp.console import MISSING, aligned, number, table, value_text

STYLES = {
    "better": "green",
    "worse": "red",
    "same": "green",
    "resolved": "green",
    "not resolved": "yellow",
    "one seed": "dim",
    "equal": "dim",
}
SEEDS, NEEDED = "seeds", "seeds\nneeded"
# As many as fit into 80 columns.
PROBES_ABREAST = 4
# A large grid has many effects; the rest is in compare.json.
MOST_EFFECTS = 16


def render(comparison: Comparison) -> RenderableType:
    """Return the warnings, the answer, the settings and their differences, for 80 columns."""
    parts: list[RenderableType] = [Text("")]
    if comparison.warnings:
        warnings = aligned((("!", line) for line in comparison.warnings), gap=1, style="yellow")
        parts += [warnings, Text("")]
    parts.append(Text(wording.headline(comparison), "bold"))
    for made in tables(comparison):
        parts += [Text(""), made]
    if comparison.examples:
        parts += [Text(""), Text(wording.example_by_example(comparison.examples))]
    parts += [*_abilities(comparison), Text(""), Text(legend(comparison), "dim")]
    odd = [
        (run.setting, "" if run.seed is None else str(run.seed), run.status, run.error or "")
        for run in comparison.runs
        if run.error or run.status != "finished"
    ]
    if odd:
        columns = ("runs to note", "seed", "status", "why")
        fold = (columns[0], "why")
        parts += [Text(""), table(*columns, left=(*fold, "status"), fold=fold, rows=odd)]
    return Group(*parts)


def tables(comparison: Comparison) -> list[Table]:
    """Return the settings with their differences, and the effects where there are any."""
    effects = [_effects(comparison.effects)] if comparison.effects else []
    return [_settings(comparison), *effects]


def _settings(comparison: Comparison) -> Table:
    compared = {d.setting: d for d in comparison.differences}
    digits = wording.decimals(comparison)
    more = _verdict_columns(comparison.differences)
    columns = (comparison.heading, SEEDS, comparison.metric, *more)
    found = table(*columns, left={*columns} - {SEEDS, NEEDED})
    for setting in comparison.settings:
        mean = _interval(setting.mean, setting.low, setting.high, digits)
        cells = [_name(comparison, setting), Text(str(setting.seeds)), Text(mean)]
        if setting.label in compared:
            cells += _verdict_cells(compared[setting.label], NEEDED in more)
        elif compared:
            cells.append(Text("baseline" * (setting.label == comparison.baseline), "dim"))
        found.add_row(*cells)
    return found


def _effects(effects: Sequence[Difference]) -> Table:
    columns = ("effect of", *_verdict_columns(effects))
    found = table(*columns, left={*columns} - {NEEDED})
    for effect in effects[:MOST_EFFECTS]:
        found.add_row(Text(effect.setting), *_verdict_cells(effect, NEEDED in columns))
    if (left := len(effects) - MOST_EFFECTS) > 0:
        found.add_row(f"and {left} more", style="dim")
    return found


def _verdict_columns(found: Sequence[Difference]) -> list[str]:
    needs = any(d.seeds_needed for d in found)
    return ["difference", "verdict"] * bool(found) + [NEEDED] * needs


def _verdict_cells(difference: Difference, needs: bool) -> list[Text]:
    # Pairs can differ far less than seeds do: a difference has digits of its own.
    digits = wording.two_digits(wording.spread(difference))
    ends = (difference.low, difference.high)
    amount = _interval(difference.mean, *ends, digits, signed=True)
    verdict = wording.verdict(difference)
    needed = [Text(f"{difference.seeds_needed:,}" if difference.seeds_needed else "")] * needs
    return [Text(amount), Text(verdict, STYLES[verdict]), *needed]


def _interval(
    mean: float | None, low: float | None, high: float | None, digits: int, *, signed: bool = False
) -> str:
    shown = number(mean, digits, signed=signed)
    if mean is None or low is None or high is None:
        return shown
    below, above = number(mean - low, digits), number(high - mean, digits)
    if below == above:
        return f"{shown} ± {above}"
    ends = " to ".join(number(end, digits, signed=signed) for end in (low, high))
    return f"{shown}\n({ends})"


def _name(comparison: Comparison, setting: Setting) -> Text:
    """Return a label without the folder that all values of the key share, as a sweep's runs do."""
    if len(comparison.keys) != 1 or not setting.label.startswith(comparison.heading):
        return Text(setting.label)
    values = [one.values[comparison.keys[0]] for one in comparison.settings]
    folders = {value.rpartition("/")[0] if isinstance(value, str) else "" for value in values}
    (shared,) = folders if len(folders) == 1 else ("",)
    name = value_text(setting.values[comparison.keys[0]])
    return Text(name.removeprefix(f"{shared}/") if shared else name)


Figure = Callable[[Ability], str]


def _abilities(comparison: Comparison) -> Iterator[RenderableType]:
    found = comparison.by_metric
    probes = [metric for metric in found if not is_finetuned(metric)]
    for first in range(0, len(probes), PROBES_ABREAST):
        abreast = probes[first : first + PROBES_ABREAST]
        cells: list[tuple[str, dict[str, Ability], Figure]]
        cells = [(_short(metric), found[metric], _mean) for metric in abreast]
        made = _ability_table(comparison, cells)
        for name, values in yardstick_rows(comparison, abreast):
            made.add_row(name, *values, style="dim")
        yield from (Text(""), made)
    for metric in (metric for metric in found if is_finetuned(metric)):
        figures: dict[str, Figure] = {
            SEEDS: lambda one: str(one.seeds),
            _short(metric): _mean,
            "median": lambda one: number(one.median, DECIMALS),
            "lowest": lambda one: number(one.lowest, DECIMALS),
            "highest": lambda one: number(one.highest, DECIMALS),
        }
        cells = [(head, found[metric], figure) for head, figure in figures.items()]
        made = _ability_table(comparison, cells)
        for name, values in yardstick_rows(comparison, [metric]):
            made.add_row(name, "", *values, style="dim")
        yield from (Text(""), made)


def _ability_table(
    comparison: Comparison, cells: Sequence[tuple[str, Mapping[str, Ability], Figure]]
) -> Table:
    columns = (comparison.heading, *(head for head, _, _ in cells))
    made = table(*columns, left={*columns} - {SEEDS}, fold=columns)
    for setting in comparison.settings:
        found = [(known.get(setting.label), figure) for _, known, figure in cells]
        shown = (Text(figure(one) if one else MISSING) for one, figure in found)
        made.add_row(_name(comparison, setting), *shown)
    return made


def _short(metric: str) -> str:
    return metric.removeprefix("eval/").removeprefix("minimal_pairs/")


def _mean(found: Ability) -> str:
    if found.low is None or found.high is None:
        return number(found.mean, DECIMALS)
    low, high = (number(end, 2).replace("0.", ".", 1) for end in (found.low, found.high))
    return f"{number(found.mean, DECIMALS)} ({low}–{high})"


def legend(comparison: Comparison) -> str:
    """Return what the figures in the tables mean."""

    def together(found: Sequence[Difference]) -> str:
        return wording.correction(comparison, len(found))

    parts = []
    if comparison.budget is not None:
        where = spent(comparison.at, comparison.budget)
        parts.append(f"Every run at {where}, on straight lines between evaluations.")
    if any(setting.high is not None for setting in comparison.settings):
        parts.append("± or (low to high): 95% interval over seeds.")
        parts.append(wording.of_means(comparison))
    if known := wording.one_run(comparison):
        parts.append(f"{known[0].upper()}{known[1:]}.")
    if comparison.differences:
        parts.append(
            f"Differences from {comparison.baseline} in pairs with the same seed; verdicts at "
            f"5%{together(comparison.differences)}."
        )
        if comparison.margin:
            parts.append(f"Same: {wording.within(comparison)}.")
    if comparison.effects:
        parts.append(
            "Effects: a key's value against the baseline's, averaged over the other keys; ×: what "
            f"two change together beyond that{together(comparison.effects)}."
        )
    if any(d.seeds_needed for d in (*comparison.differences, *comparison.effects)):
        power = "" if comparison.anytime else "for a power of 80%, "
        parts.append(f"Seeds needed: {power}if difference and spread are as seen.")
    if comparison.abilities:
        parts.append(explained(comparison))
    return " ".join(filter(None, parts))
