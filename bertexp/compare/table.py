"""The comparison on a terminal, and its tables as Markdown, for a page, and LaTeX, for a paper."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bertexp.compare import wording
from bertexp.compare.abilities import DECIMALS, is_finetuned, yardstick_rows
from bertexp.compare.results import Ability, Difference, Results, Setting
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
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"},
    **{"±": r"$\pm$", "−": "$-$", "×": r"$\times$", "–": "--", "<": "$<$", ">": "$>$"},
}


def render(comparison: Results) -> RenderableType:
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
    parts += [*_abilities(comparison), Text(""), Text(wording.legend(comparison), "dim")]
    odd = [
        (run.setting, "" if run.seed is None else str(run.seed), run.status, run.error or "")
        for run in comparison.runs
        if run.error or run.status != "finished"
    ]
    if odd:
        columns = ("runs to note", "seed", "status", "why")
        parts += [Text(""), table(*columns, left={*columns} - {"seed"}, rows=odd)]
    return Group(*parts)


def tables(comparison: Results) -> list[Table]:
    """Return the settings with their differences, and the effects where there are any."""
    effects = [_effects(comparison.effects)] if comparison.effects else []
    return [_settings(comparison), *effects]


def _settings(comparison: Results) -> Table:
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


def _name(comparison: Results, setting: Setting) -> Text:
    """Return a label without the folder that all values of the key share, as a sweep's runs do."""
    if len(comparison.keys) != 1 or not setting.label.startswith(comparison.heading):
        return Text(setting.label)
    values = [one.values[comparison.keys[0]] for one in comparison.settings]
    folders = {value.rpartition("/")[0] if isinstance(value, str) else "" for value in values}
    (shared,) = folders if len(folders) == 1 else ("",)
    name = value_text(setting.values[comparison.keys[0]])
    return Text(name.removeprefix(f"{shared}/") if shared else name)


Figure = Callable[[Ability], str]


def _abilities(comparison: Results) -> Iterator[RenderableType]:
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
    comparison: Results, cells: Sequence[tuple[str, Mapping[str, Ability], Figure]]
) -> Table:
    columns = (comparison.heading, *(head for head, _, _ in cells))
    made = table(*columns, left={*columns} - {SEEDS})
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


def markdown(comparison: Results) -> str:
    """Return the answer, the settings and effects in tables, and what the figures mean."""
    parts = [_in_markdown(line) for line in (wording.headline(comparison), *comparison.warnings)]
    for made in tables(comparison):
        head, *rows = (f"| {' | '.join(row)} |" for row in _rows(made, _in_markdown))
        aligned = ("---:" if c.justify == "right" else "---" for c in made.columns)
        parts.append("\n".join([head, f"| {' | '.join(aligned)} |", *rows]))
    return "\n\n".join([*parts, _in_markdown(wording.legend(comparison))])


def latex(comparison: Results) -> str:
    """Return a table for LaTeX's package booktabs; its caption has the answer and the legend."""
    caption = [wording.headline(comparison), *comparison.warnings, wording.legend(comparison)]
    lines = ["% \\usepackage{booktabs}", r"\begin{table}", r"\centering"]
    for place, made in enumerate(tables(comparison)):
        head, *rows = (rf"{' & '.join(row)} \\" for row in _rows(made, _in_latex))
        columns = "".join("r" if c.justify == "right" else "l" for c in made.columns)
        lines += [r"\par\medskip"] * bool(place) + [rf"\begin{{tabular}}{{{columns}}}"]
        lines += [r"\toprule", head, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*lines, rf"\caption{{{_in_latex(' '.join(caption))}}}", r"\end{table}"])


def _rows(made: Table, escaped: Callable[[str], str]) -> Iterator[list[str]]:
    """Yield the heads and the rows of a table, each cell in a line."""
    yield [escaped(str(column.header)) for column in made.columns]
    for cells in zip(*(column.cells for column in made.columns), strict=True):
        yield [escaped(str(cell)) for cell in cells]


def _in_markdown(text: str) -> str:
    # An underscore within a word is a letter.
    return re.sub(r"([\\`*<|\[])", r"\\\1", text.replace("\n", " "))


def _in_latex(text: str) -> str:
    return re.sub("|".join(map(re.escape, _LATEX)), lambda m: _LATEX[m[0]], text.replace("\n", " "))


MARKUPS = {"markdown": markdown, "latex": latex}
