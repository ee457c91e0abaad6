"""What the comparison's tables on a terminal are made of."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from bertexp.compare.results import Ability, Comparison, Difference, Setting
from bertexp.compare.settings import text
from bertexp.compare.wording import number, two_digits

STYLES = {
    "better": "green",
    "worse": "red",
    "resolved": "green",
    "not resolved": "yellow",
    "one seed": "dim",
}


def open_table(head: str) -> Table:
    """Return a table whose first column has this head; it alone is folded."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(head, overflow="fold")
    return table


def add_verdicts(columns: Table, found: Sequence[Difference]) -> bool:
    """Add the columns of differences, where there are any; returns whether some need seeds."""
    needs = any(d.seeds_needed for d in found)
    if found:
        columns.add_column("difference", no_wrap=True)
        columns.add_column("verdict", no_wrap=True)
    if needs:
        columns.add_column("seeds\nneeded", justify="right", no_wrap=True)
    return needs


def setting_name(comparison: Comparison, setting: Setting) -> Text:
    """Return a setting's label, as short as is clear."""
    if len(comparison.keys) == 1 and setting.label.startswith(comparison.keys[0]):
        key = comparison.keys[0]
        return Text(_without_folder(text(setting.values[key]), comparison, key))
    return Text(setting.label)


def _without_folder(name: str, comparison: Comparison, key: str) -> str:
    """Return a value less the folder that all values of the key lie in, as runs of a sweep do."""
    values = [setting.values[key] for setting in comparison.settings]
    folders = {value.rpartition("/")[0] if isinstance(value, str) else "" for value in values}
    (shared,) = folders if len(folders) == 1 else ("",)
    return name.removeprefix(f"{shared}/") if shared else name


def ability(found: Ability, digits: int) -> str:
    """Return a mean with the ends of its interval, in little room."""
    if found.low is None or found.high is None:
        return number(found.mean, digits)
    low, high = (number(end, 2).replace("0.", ".", 1) for end in (found.low, found.high))
    return f"{number(found.mean, digits)} ({low}–{high})"


def mean(setting: Setting, digits: int) -> str:
    """Return a mean with its interval."""
    return interval(setting.mean, setting.low, setting.high, digits)


def interval(
    mean: float | None, low: float | None, high: float | None, digits: int, *, signed: bool = False
) -> str:
    """Return a mean with its interval: as ``±`` where that is all there is to it, else below."""
    shown = number(mean, digits, signed=signed)
    if mean is None or low is None or high is None:
        return shown
    below, above = number(mean - low, digits), number(high - mean, digits)
    if below == above:
        return f"{shown} ± {above}"
    ends = " to ".join(number(end, digits, signed=signed) for end in (low, high))
    return f"{shown}\n({ends})"


def against(difference: Difference | None, is_baseline: bool, needs: bool) -> list[Text]:
    """Return the cells of a difference, of the columns of ``add_verdicts``."""
    if difference is None:
        return [Text("baseline" if is_baseline else "", "dim")]
    # Pairs can differ far less than seeds do: a difference has digits of its own.
    low, high = difference.low, difference.high
    digits = two_digits(abs(difference.mean) if low is None or high is None else (high - low) / 2)
    amount = interval(difference.mean, low, high, digits, signed=True)
    needed = [Text(f"{difference.seeds_needed:,}" if difference.seeds_needed else "")] * needs
    return [Text(amount), Text(difference.verdict, STYLES[difference.verdict]), *needed]
