"""The comparison: from runs to settings and their differences."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from bertexp.compare.abilities import find_abilities, find_yardsticks
from bertexp.compare.budgets import DEFAULT_UNIT, UNITS, is_midway, measure
from bertexp.compare.comparable import default_metric, measured_on, notes, undirected
from bertexp.compare.examples import clustered_difference
from bertexp.compare.refusals import refusals
from bertexp.compare.results import ComparedRun, Comparison, Difference, ExampleDifference, Setting
from bertexp.compare.runs import Run
from bertexp.compare.settings import find_setting, group, in_order, nearest_to_defaults, short_keys
from bertexp.compare.statistics import Values, by_seed, differences, estimate, judge
from bertexp.console import shown, value_text
from bertexp.metrics import Metric, describe
from bertexp.validation import UserError, nearest, require_choice


def compare(
    runs: Sequence[Run],
    *,
    metric: str | None = None,
    by: Sequence[str] = (),
    baseline: str | None = None,
    at: str | None = None,
    evaluation: str | None = None,
) -> Comparison:
    """Compare runs.

    Args:
        metric: what to compare; by default ``eval/loss``, or ``eval/bits_per_byte`` where runs
            have different tokenizers.
        by: keys that tell settings apart; by default all that differ, except the seed.
        baseline: ``"key=value, ..."`` of the setting to compare the others with; by default
            the one nearest to what ``conf/`` ships.
        at: the unit of the budget, see ``Comparison``; ``steps`` by default.
        evaluation: the name of the saved evaluation whose figures the runs were read with.

    Raises:
        UserError: no such metric, key, setting or unit.
    """
    at = at or DEFAULT_UNIT
    require_choice("--at", at, UNITS)
    metric = metric or default_metric(runs)
    _require_metric(runs, metric)
    keys, others, runs = group(runs, by)
    budget, runs = measure(runs, metric, at, evaluation)
    return _comparison(runs, keys, others, metric, at, budget, baseline)


def _comparison(
    runs: Sequence[Run],
    keys: tuple[str, ...],
    others: tuple[str, ...],
    metric: str,
    at: str,
    budget: float | None,
    baseline: str | None,
) -> Comparison:
    """Compare the values of measured runs; ``keys`` and ``others`` as ``group`` returns them."""
    counted = [run for run in runs if run.value is not None]
    refused, row = refusals(counted, metric) + undirected(metric), describe(metric)
    values = _values(counted)
    settings = _settings(runs, keys, values, row)
    chosen = _baseline(settings, baseline) if settings and not refused else None
    if not refused:
        settings.sort(key=lambda s: (s.mean is None, (s.mean or 0) * (-1, 1)[row.best == "min"]))
    swept = {setting.label: setting.values for setting in settings}
    base = chosen if chosen in values else None
    found = differences(values, base, row) if base else ()
    unpaired = [d.setting for d in found if not d.seeds]
    abilities = find_abilities(runs, [*swept])
    return Comparison(
        metric=metric,
        lower_is_better=row.lower_is_better,
        at=at,
        budget=budget,
        keys=keys,
        baseline=chosen,
        ranked=not refused,
        warnings=(*refused, *notes(runs, others, unpaired, at, budget)),
        settings=tuple(settings),
        differences=found,
        effects=find_effects(swept, values, base, row) if base else (),
        runs=tuple(_compared(run) for run in runs),
        examples=_examples(counted, chosen, metric, budget),
        abilities=abilities,
        yardsticks=find_yardsticks(runs, abilities),
        answered=_answered(runs),
    )


def _answered(runs: Sequence[Run]) -> dict[str, int]:
    found = [run.summary.get("answered", {}).items() for run in runs]
    return {name: count for items in found for name, count in items if count}


def _require_metric(runs: Sequence[Run], metric: str) -> None:
    known = dict.fromkeys(name for run in runs for name in run.metrics)
    if known and metric not in known:
        hint = nearest(metric, known) or f" There are {', '.join(known)}."
        raise UserError(f"--metric {metric}: no run has it.{hint}")


def _values(counted: Sequence[Run]) -> Values:
    found: dict[str, dict[str, dict[tuple[str, ...], float]]] = {}
    for run in counted:
        assert run.value is not None
        found.setdefault(run.setting, {}).setdefault(run.drawn_with, {})[run.pair] = run.value
    return found


def _settings(
    runs: Sequence[Run], keys: Sequence[str], values: Values, row: Metric
) -> list[Setting]:
    swept = {run.setting: {key: run.config.get(key) for key in keys} for run in runs}
    found = []
    for label in sorted(swept, key=lambda label: in_order(swept[label])):
        if label in values:
            means, count = by_seed(values, label), sum(map(len, values[label].values()))
            mean, deviation, low, high, _ = estimate(means, row.low, row.high)
            known = (count, len(means), mean, deviation, low, high)
            found.append(Setting(label, swept[label], *known))
        else:
            found.append(Setting(label, swept[label], 0, 0, None, None, None, None))
    return found


def find_effects(
    settings: Mapping[str, Mapping[str, object]], values: Values, baseline: str, metric: Metric
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
    return judge(gaps, metric, neutral=together)


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


def _baseline(settings: Sequence[Setting], wanted: str | None) -> str | None:
    """Return the label of the setting to compare with; None where there is nothing to compare."""
    values: Mapping[str, Mapping[str, object]] = {s.label: s.values for s in settings}
    if wanted is not None:
        return find_setting(wanted, values)
    known = {s.label: s.values for s in settings if s.mean is not None}
    return nearest_to_defaults(known) if len(known) > 1 else None


def _examples(
    counted: Sequence[Run], baseline: str | None, metric: str, budget: float | None
) -> ExampleDifference | None:
    """Return the comparison by example if there are only two runs, and both have ended."""
    if len(counted) != 2 or baseline is None or budget is None:
        return None
    first, second = sorted(counted, key=lambda run: run.setting == baseline)
    ended = all(run.status == "finished" and not is_midway(run.curve, budget) for run in counted)
    if first.setting == baseline or second.setting != baseline or not ended:
        return None
    objective = (measured_on(first.summary, metric) or "").partition("@")[0] or None
    found = clustered_difference(first.folder, second.folder, metric, objective)
    return ExampleDifference(first.setting, second.setting, *found) if found else None


def _compared(run: Run) -> ComparedRun:
    return ComparedRun(
        folder=str(shown(run.folder)),
        name=run.name,
        status=run.status,
        error=run.error or run.missing,
        seed=run.seed,
        setting=run.setting,
        value=run.value,
        metrics=run.metrics,
        curve=tuple((x, y) for x, y in run.curve if not math.isnan(y)),
    )
