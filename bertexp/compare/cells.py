"""What the comparison's tables on a terminal are made of."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from bertexp.compare.results import Ability, Comparison, Difference, Setting
from bertexp.compare.wording import two_digits
from bertexp.console import number, value_text

NEEDED = "seeds\nneeded"
STYLES = {
    "better": "green",
    "worse": "red",
    "resolved": "green",
    "not resolved": "yellow",
    "one seed": "dim",
}


def verdict_columns(found: Sequence[Difference]) -> list[str]:
    """Return the heads of the columns of differences, where there are any."""
    needs = any(d.seeds_needed for d in found)
    return ["difference", "verdict"] * bool(found) + [NEEDED] * needs


def setting_name(comparison: Comparison, setting: Setting) -> Text:
    """Return a setting's label, as short as is clear."""
    if len(comparison.keys) == 1 and setting.label.startswith(comparison.keys[0]):
        key = comparison.keys[0]
        return Text(_without_folder(value_text(setting.values[key]), comparison, key))
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
    """Return the cells of a difference, of the columns of ``verdict_columns``."""
    if difference is None:
        return [Text("baseline" if is_baseline else "", "dim")]
    # Pairs can differ far less than seeds do: a difference has digits of its own.
    low, high = difference.low, difference.high
    digits = two_digits(abs(difference.mean) if low is None or high is None else (high - low) / 2)
    amount = interval(difference.mean, low, high, digits, signed=True)
    needed = [Text(f"{difference.seeds_needed:,}" if difference.seeds_needed else "")] * needs
    return [Text(amount), Text(difference.verdict, STYLES[difference.verdict]), *needed]
