"""Full grids of two keys or more: what each key does by itself, and what two do together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping

import numpy as np

from bertexp.compare.results import Difference
from bertexp.compare.settings import in_order, short_keys
from bertexp.compare.statistics import Values, judge
from bertexp.console import value_text
from bertexp.metrics import Metric


def find_effects(
    settings: Mapping[str, Mapping[str, object]], values: Values, baseline: str, metric: Metric
) -> tuple[Difference, ...]:
    """Return main effects and interactions of two keys, corrected for their number.

    A main effect is by how much a value of a key differs from the baseline's, averaged over
    the other keys; an interaction (``a=1 × b=2``), by how much more or less the two
    change together than each by itself. Each is a contrast within a seed, and its interval is
    over seeds: those that have the whole grid.

    Args:
        settings: the values of each setting, by label.
        values: what was measured.
        baseline: the label of the setting whose values the others are held against.
        metric: what was measured.

    Returns:
        Nothing where the settings are no full grid of two keys or more, or no seed has it.
    """
    keys = list(settings[baseline])
    levels = [_levels(settings, baseline, key) for key in keys]
    places = {
        tuple(value_text(v) for v in known.values()): label for label, known in settings.items()
    }
    is_grid = min(map(len, levels), default=0) > 1 and len(settings) == math.prod(map(len, levels))
    if len(keys) < 2 or not is_grid:
        return ()
    grid = [places[point] for point in itertools.product(*levels)]
    shared = {seed: _shared(values, settings, seed) for seed in values[baseline]}
    cells = np.array(
        [
            [np.mean([values[label][seed][other] for other in others]) for label in grid]
            for seed, others in shared.items()
            if others
        ]
    )
    if not len(cells):
        return ()
    cells = cells.reshape(len(cells), *map(len, levels))
    gaps, together = {}, []
    brief = short_keys(keys)
    # The seeds are the first axis, the baseline's value is the first of every other.
    for axis, key in enumerate(keys, 1):
        for place, level in enumerate(levels[axis - 1][1:], 1):
            gaps[f"{brief[key]}={level}"] = _mean(_against_first(cells, axis, place))
    for (i, first), (j, second) in itertools.combinations(enumerate(keys, 1), 2):
        for a, b in itertools.product(range(1, len(levels[i - 1])), range(1, len(levels[j - 1]))):
            name = f"{brief[first]}={levels[i - 1][a]} × {brief[second]}={levels[j - 1][b]}"
            one = np.expand_dims(_against_first(cells, i, a), i)
            gaps[name] = _mean(_against_first(one, j, b))
            together.append(name)
    return judge(gaps, metric, neutral=together)


def _levels(settings: Mapping[str, Mapping[str, object]], baseline: str, key: str) -> list[str]:
    """Return the values of a key, the baseline's first, then in order."""
    base = value_text(settings[baseline][key])
    known = sorted((values[key] for values in settings.values()), key=lambda v: in_order({key: v}))
    return list(dict.fromkeys([base, *map(value_text, known)]))


def _shared(values: Values, settings: Collection[str], seed: str) -> list[tuple[str, ...]]:
    """Return what runs of a seed there are of every setting, by what else they differ in."""
    known = [set(values.get(label, {}).get(seed, {})) for label in settings]
    return sorted(set.intersection(*known))


def _against_first(cells: np.ndarray, axis: int, place: int) -> np.ndarray:
    return cells.take(place, axis) - cells.take(0, axis)


def _mean(found: np.ndarray) -> list[float]:
    """Return the mean for each seed."""
    return [float(each) for each in found.reshape(len(found), -1).mean(1)]
