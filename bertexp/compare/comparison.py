"""Puts the comparison together: runs in, settings and their differences out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from bertexp.compare.abilities import find_abilities, find_yardsticks
from bertexp.compare.budgets import DEFAULT_UNIT, UNITS, is_midway
from bertexp.compare.comparable import cautions, refusals, unequal_steps
from bertexp.compare.effects import find_effects
from bertexp.compare.examples import clustered_difference
from bertexp.compare.measured import Measured, measure
from bertexp.compare.results import ComparedRun, Comparison, Difference, ExampleDifference, Setting
from bertexp.compare.runs import Run
from bertexp.compare.settings import (
    ENCODER,
    SEED,
    Grouping,
    find_setting,
    group,
    in_order,
    nearest_to_defaults,
)
from bertexp.compare.statistics import Values, by_seed, differences, estimate
from bertexp.compare.wording import spent
from bertexp.console import shown
from bertexp.metrics import Metric, describe
from bertexp.validation import UserError, nearest, require_choice

DEFAULT_METRIC = "eval/loss"


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
        runs: at least one.
        metric: what to compare, ``eval/loss`` by default.
        by: keys that part runs into settings; by default all that differ, except the seed.
        baseline: ``"key=value, ..."`` of the setting to compare the others with; by default
            the one nearest to what ``conf/`` ships.
        at: the unit of the budget, see ``Comparison``; ``steps`` by default.
        evaluation: the name of the saved evaluation whose figures the runs were read with.

    Raises:
        UserError: no such metric, key, setting or unit.
    """
    metric, at = metric or DEFAULT_METRIC, at or DEFAULT_UNIT
    require_choice("--at", at, UNITS)
    _require_metric(runs, metric)
    grouping = group(runs, by)
    budget, measured = measure(runs, grouping, metric, at, evaluation)
    counted = [m for m in measured if m.value is not None]
    refused = refusals([m.run for m in counted], metric)
    values, known = _values(counted), describe(metric)
    if known.lower_is_better is None:
        refused.append(
            f"Not ranked: whether a higher {metric} is better is not known; a plugin tells it by "
            f"bertexp.metrics.register('{metric}', lower_is_better=...)."
        )
    settings = _settings(measured, grouping, values, known)
    chosen = _baseline(settings, baseline) if settings and not refused else None
    better = known.lower_is_better
    if not refused:
        settings.sort(key=lambda s: (s.mean is None, (s.mean or 0) * (1 if better else -1)))
    found: tuple[Difference, ...] = ()
    effects: tuple[Difference, ...] = ()
    if chosen is not None and chosen in values:
        found = differences(values, chosen, known)
        effects = find_effects({s.label: s.values for s in settings}, values, chosen, known)
    abilities = find_abilities(runs, grouping, settings)
    return Comparison(
        metric=metric,
        lower_is_better=better,
        at=at,
        budget=budget,
        keys=grouping.keys,
        baseline=chosen,
        ranked=not refused,
        warnings=(*refused, *_notes(measured, counted, grouping, found, at, budget)),
        settings=tuple(settings),
        differences=found,
        effects=effects,
        runs=tuple(_compared(m) for m in measured),
        examples=_examples(counted, chosen, metric, budget),
        abilities=abilities,
        yardsticks=find_yardsticks(runs, abilities),
        answered={
            name: count
            for run in runs
            for name, count in run.summary.get("answered", {}).items()
            if count
        },
    )


def _require_metric(runs: Sequence[Run], metric: str) -> None:
    known = dict.fromkeys(name for run in runs for name in run.metrics)
    if known and metric not in known:
        hint = nearest(metric, known) or f" There are {', '.join(known)}."
        raise UserError(f"--metric {metric}: no run has it.{hint}")


def _values(counted: Sequence[Measured]) -> Values:
    found: dict[str, dict[str, dict[tuple[str, ...], float]]] = {}
    for m in counted:
        assert m.value is not None
        found.setdefault(m.setting, {}).setdefault(m.unit, {})[m.pair] = m.value
    return found


def _settings(
    measured: Sequence[Measured], grouping: Grouping, values: Values, metric: Metric
) -> list[Setting]:
    """Return the settings in the order of their values."""
    swept = {m.setting: grouping.values(m.run) for m in measured}
    found = []
    for label in sorted(swept, key=lambda label: in_order(swept[label])):
        if label in values:
            means = by_seed(values, label)
            runs = sum(map(len, values[label].values()))
            e = estimate(means, metric.low, metric.high)
            told = (runs, len(means), e.mean, e.deviation, e.low, e.high)
            found.append(Setting(label, swept[label], *told))
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


def _notes(
    measured: Sequence[Measured],
    counted: Sequence[Measured],
    grouping: Grouping,
    found: Sequence[Difference],
    at: str,
    budget: float | None,
) -> list[str]:
    """Return what a reader of the figures must know, a line each."""
    runs, notes = [m.run for m in counted], []
    all_of, valued = (Counter(m.setting for m in some) for some in (measured, counted))
    for label, number in all_of.items():
        if lacking := number - valued[label]:
            notes.append(f"{label}: {lacking} of {number} runs without a value.")
    notes += _pooled(runs, grouping)
    notes += [
        f"{d.setting}: no run is a pair with one of the baseline." for d in found if not d.seeds
    ]
    notes += _unmeasured(measured, at, budget)
    if midway := sum(is_midway(m.curve, budget) for m in counted if budget is not None):
        assert budget is not None
        notes.append(
            f"{midway} of {len(counted)} runs went on after {spent(at, budget)}: they are "
            "compared in mid-course, not at the end of their schedule."
        )
    is_in_steps = at == "steps" and budget is not None
    return notes + (unequal_steps(runs) if is_in_steps else []) + cautions(runs)


def _unmeasured(measured: Sequence[Measured], at: str, budget: float | None) -> list[str]:
    """Return a line if runs have no evaluation near the budget, and what to set for one."""
    late = [
        m
        for m in measured
        if budget and (first := next((x for x, _ in m.curve if x > 0), None)) and first > budget
    ]
    if not late or not budget:
        return []
    every = min(
        (
            int(rate * budget / next(x for x, _ in m.curve if x > 0))
            for m in late
            if isinstance(rate := m.run.config.get("evaluation.every"), int)
        ),
        default=0,
    )
    advice = f"evaluation.every={every}" if every else "a smaller evaluation.every"
    read = sum(m.value is not None for m in late)
    line = (
        f"{len(late)} of {len(measured)} runs had no evaluation up to {spent(at, budget)} but the "
        f"one before their first step: {advice} gives them one"
    )
    if read:
        line += (
            "; on the straight line that they are read from instead they look worse than they are"
        )
    return [f"{line}."]


def _pooled(runs: Sequence[Run], grouping: Grouping) -> list[str]:
    """Return what intervals are over, a line each, where that is not the seed alone."""
    notes = []
    if others := [key for key in grouping.others if key not in (SEED, ENCODER)]:
        notes.append(
            f"Settings pool runs that differ in {', '.join(others)}: they are averaged within "
            "each seed, and intervals are over seeds."
        )
    if ENCODER in grouping.others:
        notes.append(
            "Seeds are those that the encoders were pre-trained with: runs fine-tuned from one "
            "encoder, or from encoders of one seed, are averaged."
        )
    elif any(run.encoder for run in runs):
        notes.append(
            "Seeds are those of fine-tuning: intervals are about these encoders, not about how "
            "they were pre-trained."
        )
    return notes


def _examples(
    counted: Sequence[Measured], baseline: str | None, metric: str, budget: float | None
) -> ExampleDifference | None:
    """Return the comparison by example if there are but two runs, and both at their end."""
    if len(counted) != 2 or baseline is None or budget is None:
        return None
    first, second = sorted(counted, key=lambda m: m.setting == baseline)
    ended = all(m.run.status == "finished" and not is_midway(m.curve, budget) for m in counted)
    if first.setting == baseline or second.setting != baseline or not ended:
        return None
    found = clustered_difference(first.run.folder, second.run.folder, metric)
    return ExampleDifference(first.setting, second.setting, *found) if found else None


def _compared(measured: Measured) -> ComparedRun:
    run = measured.run
    return ComparedRun(
        folder=str(shown(run.folder)),
        name=run.name,
        status=run.status,
        error=run.error or measured.missing,
        seed=run.seed,
        setting=measured.setting,
        value=measured.value,
        metrics=run.metrics,
        curve=tuple(point for point in measured.curve if point[1] == point[1]),
    )
