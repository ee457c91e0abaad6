"""The comparison on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.console import Console, Group, RenderableType
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
from bertexp.compare.results import Ability, Comparison, Difference, Setting
from bertexp.compare.settings import text
from bertexp.compare.wording import (
    MISSING,
    decimals,
    example_by_example,
    headline,
    number,
    spent,
    two_digits,
)

PLAIN_WIDTH = 80
RUNS = "runs"
# As many as 80 columns have room for.
PROBES_ABREAST = 4
STYLES = {"better": "green", "worse": "red", "not resolved": "yellow", "one seed": "dim"}


def open_console() -> Console:
    """Return standard output; what is no terminal has 80 columns."""
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)


def render(comparison: Comparison) -> RenderableType:
    """Return the warnings, the answer, the settings and their differences, and odd runs.

    Made for 80 columns.
    """
    parts: list[RenderableType] = [
        *(Text(""), *_warnings(comparison)),
        *(Text(headline(comparison), "bold"), Text("")),
        _settings(comparison),
    ]
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
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(
        comparison.keys[0] if len(comparison.keys) == 1 else "setting", overflow="fold"
    )
    table.add_column(RUNS, justify="right", no_wrap=True)
    table.add_column(comparison.metric, no_wrap=True)
    if compared:
        table.add_column("difference", no_wrap=True)
        table.add_column("verdict", no_wrap=True)
    needs = any(d.seeds_needed for d in compared.values())
    if needs:
        table.add_column("seeds\nneeded", justify="right", no_wrap=True)
    for setting in comparison.settings:
        cells = [_name(comparison, setting), Text(str(setting.runs)), Text(_mean(setting, digits))]
        if compared:
            is_baseline = setting.label == comparison.baseline
            cells += _against(compared.get(setting.label), is_baseline)
        if needs:
            found = compared.get(setting.label)
            cells.append(Text(f"{found.seeds_needed:,}" if found and found.seeds_needed else ""))
        table.add_row(*cells)
    return table


def _abilities(comparison: Comparison) -> Iterator[RenderableType]:
    """Yield what the encoders can do: a table of the probes, and one for each fine-tuned metric."""
    found = by_metric(comparison.abilities)
    probes = [metric for metric in found if is_probe(metric)]
    for first in range(0, len(probes), PROBES_ABREAST):
        shown = probes[first : first + PROBES_ABREAST]
        columns = [short(metric) for metric in shown]
        table = _ability_table(comparison, columns, [(found[metric], _mean) for metric in shown])
        for name, values in yardstick_rows(comparison.yardsticks, shown):
            table.add_row(name, *(number(value, DECIMALS) for value in values), style="dim")
        yield from (Text(""), table)
    for metric in [metric for metric in found if metric not in probes]:
        columns = [RUNS, short(metric), "median", "lowest", "highest"]
        figures = (_runs, _mean, *(_figure(name) for name in columns[2:]))
        cells = [(found[metric], figure) for figure in figures]
        yield from (Text(""), _ability_table(comparison, columns, cells))


def _ability_table(
    comparison: Comparison,
    columns: Sequence[str],
    cells: Sequence[tuple[Mapping[str, Ability], Callable[[Ability, int], str]]],
) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    key = comparison.keys[0] if len(comparison.keys) == 1 else "setting"
    for column in (key, *columns):
        table.add_column(column, overflow="fold", justify="right" if column == RUNS else "left")
    for setting in comparison.settings:
        found = [(known.get(setting.label), figure) for known, figure in cells]
        shown = [figure(one, DECIMALS) if one else MISSING for one, figure in found]
        table.add_row(_name(comparison, setting), *map(Text, shown))
    return table


def _runs(found: Ability, _: int) -> str:
    return str(found.runs)


def _figure(name: str) -> Callable[[Ability, int], str]:
    return lambda found, digits: number(getattr(found, name), digits)


def _name(comparison: Comparison, setting: Setting) -> Text:
    """Return a setting's label, as short as is clear."""
    if len(comparison.keys) == 1:
        key = comparison.keys[0]
        return Text(_without_folder(text(setting.values[key]), comparison, key))
    ends = Counter(key.rpartition(".")[2] for key in comparison.keys)
    brief = {key: key.rpartition(".")[2] for key in comparison.keys}
    parts = [
        f"{brief[key] if ends[brief[key]] == 1 else key}={text(value)}"
        for key, value in setting.values.items()
    ]
    return Text(", ".join(parts) or setting.label)


def _without_folder(name: str, comparison: Comparison, key: str) -> str:
    """Return a value less the folder that all values of the key lie in, as runs of a sweep do."""
    values = [setting.values[key] for setting in comparison.settings]
    folders = {value.rpartition("/")[0] if isinstance(value, str) else "" for value in values}
    (shared,) = folders if len(folders) == 1 else ("",)
    return name.removeprefix(f"{shared}/") if shared else name


def _mean(setting: Setting | Ability, digits: int) -> str:
    if setting.mean is None or setting.high is None:
        return number(setting.mean, digits)
    return f"{number(setting.mean, digits)} ± {number(setting.high - setting.mean, digits)}"


def _against(difference: Difference | None, is_baseline: bool) -> list[Text]:
    if difference is None:
        return [Text("baseline" if is_baseline else "", "dim"), Text("")]
    # Pairs can differ far less than seeds do: a difference has digits of its own.
    half = None if difference.high is None else difference.high - difference.mean
    digits = two_digits(half or abs(difference.mean))
    amount = number(difference.mean, digits, signed=True)
    if half is not None:
        amount += f" ± {number(half, digits)}"
    return [Text(amount), Text(difference.verdict, STYLES[difference.verdict])]


def _legend(comparison: Comparison) -> str:
    parts = []
    if comparison.budget is not None:
        parts.append(
            f"Every run at {spent(comparison.at, comparison.budget)}, on straight lines "
            "between evaluations."
        )
    if any(setting.high is not None for setting in comparison.settings):
        parts.append("±: 95% t interval over seeds.")
    if comparison.differences:
        count = len(comparison.differences)
        together = f" for all {count} together (Holm)" if count > 1 else ""
        parts.append(
            f"Differences from {comparison.baseline} in pairs with the same seed; verdicts at "
            f"5%{together}."
        )
    if any(d.seeds_needed for d in comparison.differences):
        parts.append("Seeds needed: for a power of 80%, if difference and spread are as seen.")
    if comparison.abilities:
        parts.append(explained(comparison.abilities))
    return " ".join(parts)


def _unusual(comparison: Comparison) -> list[RenderableType]:
    """Return the runs that did not finish or do not count, with the reasons."""
    shown = [run for run in comparison.runs if run.error or run.status != "finished"]
    if not shown:
        return []
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("runs to know of", overflow="fold")
    table.add_column("seed", justify="right")
    table.add_column("status", no_wrap=True)
    table.add_column("why", overflow="fold")
    for run in shown:
        seed = "" if run.seed is None else str(run.seed)
        cells = (run.setting, seed, run.status, run.error or "")
        table.add_row(*(Text(cell) for cell in cells))
    return [Text(""), table]
