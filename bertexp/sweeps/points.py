"""The points of a sweep: of a grid, of Optuna's search, and of ``hydra/sweeper=resolve``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Transformer
from hydra.core.plugins import Plugins

from bertexp.validation import UserError, require, require_count, require_margin

# Overrides with several values, and those of a study's file, by key.
Varied = Mapping[str, Override]
# ``hydra/sweeper=optuna``, in Python because Optuna's own plugin for Hydra, if it is installed,
# stores an entry of this name, which no file can replace.
SEARCH = {
    "_target_": "hydra_plugins.bertexp_sweepers.SearchSweeper",
    "_recursive_": False,
    # Values or intervals by key, as in the grid's params.
    "params": None,
    # The number of jobs.
    "n_trials": 20,
    # The number of jobs drawn at a time; with hydra/launcher=joblib they run at a time.
    "n_jobs": 1,
    # One of Optuna's samplers, with its arguments. With a seed the same command draws the same
    # jobs, so that a search can be resumed.
    "sampler": {"_target_": "optuna.samplers.TPESampler", "seed": 0},
}


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


def register_search() -> None:
    """Make ``hydra/sweeper=optuna`` choose the search of this package."""
    Plugins.instance()  # lets that plugin register itself first
    ConfigStore.instance().store("optuna", SEARCH, group="hydra/sweeper")


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


START_SEEDS = 3


@dataclass(frozen=True)
class Limits:
    """The keys ``hydra.sweeper.*``, explained in ``conf/hydra/sweeper/resolve.yaml``.

    Raises:
        UserError: a value is not allowed.
    """

    margin: float
    metric: str | None
    max_seeds: int
    max_time: float | None
    start_seeds: int | None
    per_round: int

    def __post_init__(self) -> None:
        for name in ("max_seeds", "start_seeds", "per_round"):
            if (found := getattr(self, name)) is not None or name != "start_seeds":
                require_count(f"hydra.sweeper.{name}", found)
        require_margin("hydra.sweeper.margin", self.margin)
        is_number = isinstance(self.max_time, int | float) and math.isfinite(self.max_time)
        fits = self.max_time is None or (is_number and self.max_time > 0)
        require(fits, "hydra.sweeper.max_time", self.max_time, "minutes above 0, or null")

    def first_seeds(self, varied: Varied, seed: int) -> list[int]:
        """Return the seeds of the first round: those listed, or some that count up from ``seed``.

        Raises:
            UserError: a seed is no number, or ``start_seeds`` and a list are both given.
        """
        swept = grid({"seed": varied["seed"]}, ()) if "seed" in varied else []
        listed = [point.partition("=")[2] for (point,) in swept]
        for value in listed:
            require(value.isdecimal(), "seed", value, "a whole number, 0 or above")
        if len(listed) > 1:
            if self.start_seeds is not None:
                raise UserError(
                    f"hydra.sweeper.start_seeds={self.start_seeds}: seed={','.join(listed)} lists "
                    "the seeds to start with; leave out one of the two."
                )
            return self._within([*map(int, listed)])
        first = int(listed[0]) if listed else seed
        return self._within([*range(first, first + (self.start_seeds or START_SEEDS))])

    def _within(self, seeds: list[int]) -> list[int]:
        allowed = f"at least the {len(seeds)} seeds to start with"
        require(len(seeds) <= self.max_seeds, "hydra.sweeper.max_seeds", self.max_seeds, allowed)
        return seeds
