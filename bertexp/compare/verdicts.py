"""Verdicts: which settings are better or worse than the baseline, or the same."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bertexp.compare import anytime
from bertexp.compare.comparable import default_metric
from bertexp.compare.results import Difference, Look
from bertexp.compare.runs import Record
from bertexp.compare.statistics import (
    ALPHA,
    MOST_SEEDS,
    Estimate,
    equivalence_p,
    estimate,
    holm,
    seeds_needed,
)
from bertexp.files import read_json
from bertexp.metrics import Metric

UNBOUNDED = Metric(lower_is_better=True)
# What `hydra/sweeper=resolve` leaves in the folder of a sweep: its margin and metric.
RESOLVE_FILE = "resolve.json"

# A metric by setting, by seed, and by what else runs differ in: those alike in both are a pair.
Values = Mapping[str, Mapping[str, Mapping[tuple[str, ...], float]]]


class Criterion(NamedTuple):
    """What decides between settings.

    Attributes:
        margin: differences within it, in the metric's unit, are the same for the user.
        anytime: whether more seeds were run because of what the first ones showed.
    """

    margin: float = 0.0
    anytime: bool = False


FIXED = Criterion()


def criterion_of(runs: Sequence[Record], metric: str, margin: float | None) -> Criterion:
    """Return the criterion of a comparison; runs of ``hydra/sweeper=resolve`` have their own.

    Their margin is in the unit of their sweep's metric, and does not apply to others.
    """
    sweeps = {run.sweep for run in runs}
    plans = [plan for sweep in sweeps if sweep and (plan := read_json(sweep / RESOLVE_FILE))]
    standard = next((name for run in runs for name in run.task_metrics), None) or default_metric(
        runs
    )
    margins = (plan["margin"] for plan in plans if (plan["metric"] or standard) == metric)
    own = max(margins, default=0.0)
    return Criterion(own if margin is None else margin, bool(plans))


def by_seed(values: Values, setting: str) -> list[float]:
    """Return the mean over each seed's runs of a setting: the seed is what is drawn anew."""
    return [float(np.mean(list(runs.values()))) for runs in values[setting].values()]


def differences(
    values: Values, baseline: str, metric: Metric = UNBOUNDED, criterion: Criterion = FIXED
) -> tuple[Difference, ...]:
    """Return each setting against the baseline, in pairs, corrected for their number."""
    gaps = pair_gaps(values, baseline)
    base = np.mean(by_seed(values, baseline))
    unpaired = {label: float(np.mean(by_seed(values, label)) - base) for label in gaps}
    return judge({k: [*v.values()] for k, v in gaps.items()}, metric, unpaired, criterion=criterion)


def pair_gaps(values: Values, baseline: str) -> dict[str, dict[str, float]]:
    """Return each setting's difference from the baseline by seed.

    Runs of one seed are not independent, whatever else they differ in: within a seed the
    differences of all pairs are averaged, and the interval is over seeds.
    """
    base = values[baseline]
    found: dict[str, dict[str, float]] = {}
    for label in (label for label in values if label != baseline):
        pairs = {
            seed: [
                value - base[seed][other] for other, value in runs.items() if other in base[seed]
            ]
            for seed, runs in values[label].items()
            if seed in base
        }
        found[label] = {seed: float(np.mean(each)) for seed, each in pairs.items() if each}
    return found


def all_looks(values: Values, baseline: str, metric: Metric) -> dict[str, tuple[Look, ...]]:
    """Return each setting's difference from the baseline as its seeds were added."""
    gaps = pair_gaps(values, baseline)
    alpha, span = ALPHA / max(len(gaps), 1), metric.high - metric.low
    return {label: anytime.looks([*found.values()], alpha, span) for label, found in gaps.items()}


def judge(
    gaps: Mapping[str, Sequence[float]],
    metric: Metric,
    unpaired: Mapping[str, float] | None = None,
    neutral: Collection[str] = (),
    criterion: Criterion = FIXED,
) -> tuple[Difference, ...]:
    """Return differences with intervals and verdicts, corrected for their number.

    Args:
        gaps: by name, one for each seed, in the order in which they were run.
        unpaired: the difference of those without a seed.
        neutral: the names of those that are neither better nor worse.
    """
    span = metric.high - metric.low
    judged = (_judge_anytime if criterion.anytime else _judge_fixed)(
        {name: found for name, found in gaps.items() if found}, span, criterion.margin
    )
    found = []
    for name, values in gaps.items():
        e, p, is_resolved, is_same, needed = judged.get(name) or _Judged(
            Estimate((unpaired or {})[name])
        )
        verdict = _verdict(len(values), e.mean, is_resolved, metric.lower_is_better)
        if len(values) > 1 and is_same:
            verdict = "same"
        elif name in neutral and verdict in ("better", "worse"):
            verdict = "resolved"
        needed = needed if verdict == "not resolved" else None
        numbers = (e.mean, e.low, e.high, e.p_value, p)
        found.append(Difference(name, len(values), *numbers, verdict, needed))
    return tuple(found)


class _Judged(NamedTuple):
    estimate: Estimate
    p_corrected: float | None = None
    is_resolved: bool = False
    is_same: bool = False
    needed: int | None = None


def _judge_fixed(
    gaps: Mapping[str, Sequence[float]], span: float, margin: float
) -> dict[str, _Judged]:
    """Judge by t tests of a number of seeds that was chosen before.

    Differences and equivalences are two families, each corrected by Holm. The seeds needed are
    those at which the smallest p of all that are not resolved would pass: the level is that of
    Holm's next step.
    """
    tested = {name: found for name, found in gaps.items() if len(found) > 1}
    estimates = {name: estimate(found, -span, span) for name, found in gaps.items()}
    p_values = holm({name: estimates[name].p_value or 0.0 for name in tested})
    same = holm({n: equivalence_p(found, margin) for n, found in tested.items()} if margin else {})
    unresolved = sum(p > ALPHA for p in p_values.values())
    judged = {}
    for name, e in estimates.items():
        p, needed = p_values.get(name), None
        is_resolved = p is not None and p <= ALPHA
        if p is not None and not is_resolved and e.deviation is not None:
            needed = seeds_needed(e.mean, e.deviation, ALPHA / unresolved, len(gaps[name]))
        judged[name] = _Judged(e, p, is_resolved, same.get(name, 1.0) <= ALPHA, needed)
    return judged


def _judge_anytime(
    gaps: Mapping[str, Sequence[float]], span: float, margin: float
) -> dict[str, _Judged]:
    """Judge by intervals that hold for all differences together, at any number of seeds."""
    alpha = ALPHA / max(len(gaps), 1)
    judged = {}
    for name, values in gaps.items():
        seen, p = anytime.look(values, alpha, span), anytime.p_value(values)
        low = -math.inf if seen.low is None else seen.low
        high = math.inf if seen.high is None else seen.high
        judged[name] = _Judged(
            Estimate(seen.mean, None, seen.low, seen.high, p),
            min(1.0, p * len(gaps)),
            is_resolved=low > 0 or high < 0,
            is_same=-margin <= low and high <= margin,
            needed=anytime.seeds_needed(values, alpha, margin, MOST_SEEDS),
        )
    return judged


def _verdict(seeds: int, mean: float, is_resolved: bool, lower_is_better: bool | None) -> str:
    if seeds == 1:
        return "one seed"
    if not is_resolved:
        return "not resolved"
    return "better" if (mean < 0) == lower_is_better else "worse"
