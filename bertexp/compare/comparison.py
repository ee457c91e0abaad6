"""The comparison: from runs to settings and their differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bertexp.compare.abilities import find_abilities, find_yardsticks
from bertexp.compare.budgets import UNITS, default_unit, is_midway, measure
from bertexp.compare.comparable import default_metric, measured_on
from bertexp.compare.effects import find_effects
from bertexp.compare.examples import clustered_difference
from bertexp.compare.notes import notes, refusals
from bertexp.compare.results import ComparedRun, ExampleDifference, Results, Setting
from bertexp.compare.runs import Record
from bertexp.compare.settings import find_setting, group, in_order, nearest_to_defaults
from bertexp.compare.statistics import estimate
from bertexp.compare.verdicts import (
    Criterion,
    Values,
    all_looks,
    by_seed,
    criterion_of,
    differences,
)
from bertexp.console import short_path
from bertexp.metrics import Metric, cost, describe
from bertexp.validation import UserError, nearest, require_choice, require_margin


def compare(
    runs: Sequence[Record],
    *,
    metric: str | None = None,
    by: Sequence[str] = (),
    baseline: str | None = None,
    at: str | None = None,
    evaluation: str | None = None,
    margin: float | None = None,
) -> Results:
    """Compare runs.

    Args:
        metric: what to compare; by default ``eval/loss``, or ``eval/bits_per_byte`` where runs
            have different tokenizers or masking strategies.
        by: keys that tell settings apart; by default all that differ, except the seed.
        baseline: ``"key=value, ..."`` of the setting to compare the others with; by default
            the one nearest to what ``conf/`` ships.
        at: the unit of the budget, see ``Results``; by default ``steps``, or ``tokens`` where
            these are what runs were given.
        evaluation: the name of the saved evaluation whose figures the runs were read with.
        margin: differences within it, in the metric's unit, are the same for the user.

    Raises:
        UserError: no such metric, key, setting or unit.
    """
    at = at or default_unit(runs)
    require_choice("--at", at, UNITS)
    if margin is not None:
        require_margin("--margin", margin)
    metric = metric or default_metric(runs)
    _require_metric(runs, metric)
    keys, others, runs = group(runs, by)
    budget, runs = measure(runs, metric, at, evaluation)
    criterion = criterion_of(runs, metric, margin)
    return _comparison(runs, keys, others, metric, at, budget, baseline, criterion)


def _comparison(
    runs: Sequence[Record],
    keys: tuple[str, ...],
    others: tuple[str, ...],
    metric: str,
    at: str,
    budget: float | None,
    baseline: str | None,
    criterion: Criterion,
) -> Results:
    """Compare the values of measured runs; ``keys`` and ``others`` as ``group`` returns them."""
    counted = [run for run in runs if run.value is not None]
    refused, row = refusals(counted, metric), describe(metric)
    values = _values(counted)
    settings = _settings(runs, keys, values, row)
    chosen = _baseline(settings, baseline) if settings and not refused else None
    if not refused:
        settings.sort(key=lambda s: math.inf if s.mean is None else cost(metric, s.mean))
    swept = {setting.label: setting.values for setting in settings}
    against = _against(chosen, swept, values, row, criterion)
    abilities = find_abilities(runs, [*swept])
    return Results(
        metric=metric,
        lower_is_better=row.lower_is_better,
        at=at,
        budget=budget,
        keys=keys,
        baseline=chosen,
        ranked=not refused,
        warnings=(*refused, *notes(runs, others, against["differences"], at, budget)),
        settings=tuple(settings),
        runs=tuple(_compared(run) for run in runs),
        examples=_examples(counted, chosen, metric, budget),
        abilities=abilities,
        yardsticks=find_yardsticks(runs, abilities),
        answered=_answered(runs),
        **criterion._asdict(),
        **against,
    )


def _against(
    baseline: str | None,
    swept: Mapping[str, Mapping[str, object]],
    values: Values,
    row: Metric,
    criterion: Criterion,
) -> dict[str, Any]:
    """Return the fields about differences from the baseline; none where it has no value."""
    if baseline is None or baseline not in values:
        return {"differences": ()}
    return {
        "differences": differences(values, baseline, row, criterion),
        "effects": find_effects(swept, values, baseline, row, criterion),
        "looks": all_looks(values, baseline, row) if criterion.anytime else {},
    }


def _answered(runs: Sequence[Record]) -> dict[str, int]:
    known = (run.summary.get("answered", {}).items() for run in runs)
    return {name: count for items in known for name, count in items if count}


def _require_metric(runs: Sequence[Record], metric: str) -> None:
    known = dict.fromkeys(name for run in runs for name in run.metrics)
    if known and metric not in known:
        hint = nearest(metric, known) or f" There are {', '.join(known)}."
        raise UserError(f"--metric {metric}: no run has it.{hint}")


def _values(counted: Sequence[Record]) -> Values:
    found: dict[str, dict[str, dict[tuple[str, ...], float]]] = {}
    for run in sorted(counted, key=lambda run: run.seed or 0):  # as they were run
        assert run.value is not None
        found.setdefault(run.setting, {}).setdefault(run.drawn_with, {})[run.pair] = run.value
    return found


def _settings(
    runs: Sequence[Record], keys: Sequence[str], values: Values, row: Metric
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


def _baseline(settings: Sequence[Setting], wanted: str | None) -> str | None:
    """Return the label of the setting to compare with; None where there is nothing to compare."""
    values: Mapping[str, Mapping[str, object]] = {s.label: s.values for s in settings}
    if wanted is not None:
        return find_setting(wanted, values)
    known = {s.label: s.values for s in settings if s.mean is not None}
    return nearest_to_defaults(known) if len(known) > 1 else None


def _examples(
    counted: Sequence[Record], baseline: str | None, metric: str, budget: float | None
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


def _compared(run: Record) -> ComparedRun:
    return ComparedRun(
        folder=str(short_path(run.folder)),
        name=run.name,
        status=run.status,
        error=run.error or run.missing,
        seed=run.seed,
        setting=run.setting,
        value=run.value,
        metrics=run.metrics,
        curve=tuple((x, y) for x, y in run.curve if not math.isnan(y)),
    )
