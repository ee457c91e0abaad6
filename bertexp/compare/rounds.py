"""After each round of ``hydra/sweeper=resolve``: the verdicts so far, and what is still open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from bertexp.compare import anytime, wording
from bertexp.compare.comparison import compare
from bertexp.compare.results import Comparison, Difference
from bertexp.compare.runs import read_record, read_run
from bertexp.compare.statistics import ALPHA
from bertexp.compare.verdicts import RESOLVE_FILE
from bertexp.console import number, plural, shown, value_text
from bertexp.experiment.summary import write_json
from bertexp.validation import UserError, nearest

# A finished run does not change.
_read = cache(read_run)


def check_plan(sweep: Path, margin: float, metric: str | None) -> None:
    """Raise a ``UserError`` if a sweep was begun with another margin or metric."""
    began = read_record(sweep / RESOLVE_FILE)
    for key, now in (("margin", margin), ("metric", metric)):
        if began and began[key] != now:
            raise UserError(
                f"hydra.sweeper.{key}={value_text(now)}: results are known by now, and this sweep "
                f"was begun with {value_text(began[key])}; choose another sweep=..."
            )


def save_plan(sweep: Path, folders: Iterable[Path], margin: float, metric: str | None) -> None:
    """Keep a sweep's margin and metric, before its results are compared for the first time.

    Raises:
        UserError: no run has the metric.
    """
    known = {name for folder in folders for name in _read(folder).metrics}
    if metric and metric not in known:
        raise UserError(f"hydra.sweeper.metric={metric}: no run has it.{nearest(metric, known)}")
    write_json(sweep / RESOLVE_FILE, {"margin": margin, "metric": metric})


def look(folders: Iterable[Path], metric: str | None) -> Comparison:
    """Compare the finished runs of a sweep."""
    return compare([_read(folder) for folder in folders], metric=metric)


def places(comparison: Comparison, folders: Iterable[Path]) -> list[str]:
    """Return the setting of the run in each of ``folders``."""
    found = {run.folder: run.setting for run in comparison.runs}
    return [found[str(shown(folder))] for folder in folders]


def open_settings(comparison: Comparison) -> list[str]:
    """Return the settings that more seeds can resolve: none without a pair of runs is."""
    undecided = ("not resolved", "one seed")
    return [d.setting for d in comparison.differences if d.seeds and d.verdict in undecided]


def fewest_seeds(settings: int) -> int:
    """Return the fewest seeds at which one of so many settings can be resolved."""
    return anytime.fewest_seeds(ALPHA / max(settings - 1, 1))


def progress(comparison: Comparison) -> Iterator[str]:
    """Yield a line a setting: its difference, interval, verdict and number of seeds."""
    fewest = fewest_seeds(len(comparison.differences) + 1)
    names = wording.short_names(comparison)
    unit = wording.unit(comparison.metric)
    for d in comparison.differences:
        pair = f"{names[d.setting]} against {names[comparison.baseline or '']}"
        size = f"{_interval(d, fewest)} {unit}".rstrip()
        yield f"{pair}: {size}, {wording.verdict(d)}, {plural(d.seeds, 'seed')}"


def _interval(difference: Difference, fewest: int) -> str:
    digits = wording.two_digits(wording.spread(difference))
    mean = number(difference.mean, digits, signed=True)
    if difference.low is None:
        return f"{mean} (no interval before {fewest} seeds)"
    ends = (number(end, digits, signed=True) for end in (difference.low, difference.high))
    return f"{mean} ({' to '.join(ends)})"
