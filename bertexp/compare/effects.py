"""Main effects of keys, and interactions of two, in a full grid of settings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from bertexp.compare.results import Difference
from bertexp.compare.settings import in_order, short_keys
from bertexp.compare.verdicts import FIXED, Criterion, Values, judge
from bertexp.console import value_text
from bertexp.metrics import Metric


def find_effects(
    settings: Mapping[str, Mapping[str, object]],
    values: Values,
    baseline: str,
    metric: Metric,
    criterion: Criterion = FIXED,
) -> tuple[Difference, ...]:
    """Return main effects and interactions of two keys, corrected for their number.

    A main effect is the difference between a key's value and the baseline's, averaged over the
    other keys; an interaction (``a=1 × b=2``) is the change of two keys together minus the changes
    of each alone. Both are contrasts within a seed, with intervals over the seeds that have the
    whole grid.

    Returns:
        Nothing if the settings are not a full grid of two or more keys, or no seed has it.
    """
    keys = list(settings[baseline])
    levels = [_levels(settings, baseline, key) for key in keys]
    cells = _grid(settings, values, baseline, levels)
    if cells is None:
        return ()
    gaps, together = {}, []
    brief = short_keys(keys)
    # The seeds are the first axis, the baseline's value is the first of every other.
    for axis, key in enumerate(keys, 1):
        for place, level in enumerate(levels[axis - 1][1:], 1):
            gaps[f"{brief[key]}={level}"] = _by_seed(_against_first(cells, axis, place))
    for (i, first), (j, second) in itertools.combinations(enumerate(keys, 1), 2):
        for a, b in itertools.product(range(1, len(levels[i - 1])), range(1, len(levels[j - 1]))):
            name = f"{brief[first]}={levels[i - 1][a]} × {brief[second]}={levels[j - 1][b]}"
            one = np.expand_dims(_against_first(cells, i, a), i)
            gaps[name] = _by_seed(_against_first(one, j, b))
            together.append(name)
    return judge(gaps, metric, neutral=together, criterion=criterion)


def _grid(
    settings: Mapping[str, Mapping[str, object]],
    values: Values,
    baseline: str,
    levels: Sequence[Sequence[str]],
) -> np.ndarray | None:
    """Return the values by seed and by the level of each key; None where there is no full grid."""
    sizes = [*map(len, levels)]
    if len(sizes) < 2 or min(sizes) < 2 or len(settings) != math.prod(sizes):
        return None
    places = {
        tuple(value_text(v) for v in known.values()): label for label, known in settings.items()
    }
    grid = [places[point] for point in itertools.product(*levels)]
    rows = []
    for seed in values[baseline]:
        # The runs of this seed that every setting has, by what else they differ in.
        found = (values.get(label, {}).get(seed, {}).keys() for label in grid)
        if others := sorted(set.intersection(*map(set, found))):
            rows.append([np.mean([values[label][seed][o] for o in others]) for label in grid])
    return np.array(rows).reshape(len(rows), *sizes) if rows else None


def _levels(settings: Mapping[str, Mapping[str, object]], baseline: str, key: str) -> list[str]:
    base = value_text(settings[baseline][key])
    known = sorted((values[key] for values in settings.values()), key=lambda v: in_order({key: v}))
    return list(dict.fromkeys([base, *map(value_text, known)]))


def _against_first(cells: np.ndarray, axis: int, place: int) -> np.ndarray:
    return cells.take(place, axis) - cells.take(0, axis)


def _by_seed(found: np.ndarray) -> list[float]:
    return [float(each) for each in found.reshape(len(found), -1).mean(1)]
