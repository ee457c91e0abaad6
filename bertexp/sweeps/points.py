"""The points of a sweep: the overrides of each job."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Transformer

from bertexp.validation import UserError

# Overrides with several values, and those of a study's file, by key.
Varied = Mapping[str, Override]


def grid(varied: Varied, together: Collection[str]) -> list[list[str]]:
    """Return all combinations of values, except that keys in ``together`` vary together.

    Raises:
        UserError: keys that vary together have no list, or lists of different lengths.
    """
    lists = {key: _values(override) for key, override in varied.items()}
    for key in together:
        if key not in varied or not varied[key].is_sweep_override():
            raise UserError(f"hydra.sweeper.together: {key} is not swept over.")
    side_by_side = [lists.pop(key) for key in [*lists] if key in together]
    if len({*map(len, side_by_side)}) > 1:
        counts = ", ".join(f"{key} has {len(_values(varied[key]))}" for key in together)
        raise UserError(f"hydra.sweeper.together: needs as many values of each; {counts}.")
    points = zip(*side_by_side, strict=True) if side_by_side else [()]
    return [[*point, *rest] for point in points for rest in itertools.product(*lists.values())]


def suggested(trial: Any, varied: Varied) -> list[str]:
    """Return the point that a trial of Optuna evaluates."""
    searched = {key: each for key, each in varied.items() if each.is_sweep_override()}
    point = [f"{key}={_suggest(trial, key, override)}" for key, override in searched.items()]
    return point + [_values(each)[0] for key, each in varied.items() if key not in searched]


def _values(override: Override) -> list[str]:
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [f"{key}={override.get_value_element_as_str()}"]
    if override.is_interval_sweep():
        raise UserError(f"{override.input_line}: an interval is searched, hydra/sweeper=optuna.")
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def _suggest(trial: Any, key: str, override: Override) -> Any:
    swept = override.value()
    if isinstance(swept, IntervalSweep):
        low, high = swept.start, swept.end
        whole = isinstance(low, int) and isinstance(high, int)
        suggest = trial.suggest_int if whole else trial.suggest_float
        return suggest(key, low, high, log="log" in swept.tags)
    if isinstance(swept, RangeSweep) and not swept.shuffle:
        values = [*swept.range()]
        whole = all(isinstance(value, int) for value in values)
        suggest = trial.suggest_int if whole else trial.suggest_float
        return suggest(key, values[0], values[-1], step=swept.step)
    return trial.suggest_categorical(key, [*override.sweep_iterator(Transformer.encode)])
