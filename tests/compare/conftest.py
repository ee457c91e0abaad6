"""What the comparison's tests share: comparisons of simulated runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bertexp.compare.results import ComparedRun, Comparison, Difference, Setting
from bertexp.compare.settings import ALL_RUNS, short_keys
from bertexp.console import value_text

STEPS = np.linspace(0, 1e6, 21)[1:]
EVALUATION_RATES = (0.15, 0.4, 0.8)

Effect = Callable[[Mapping[str, Any]], float]


def masking_effect(values: Mapping[str, Any]) -> float:
    """A loss that is lowest at a masking rate of 0.4."""
    return 2.4 + 1.2 * (float(values.get("masking.prob", 0.4)) - 0.4) ** 2


@pytest.fixture(scope="session")
def simulate() -> Callable[..., Comparison]:
    """Return a function that compares simulated runs, one a setting and seed."""
    return _simulate


def _simulate(
    grid: Mapping[str, Sequence[Any]] | None = None,
    *,
    seeds: int = 3,
    effect: Effect = masking_effect,
    spread: float = 0.012,
    **changes: Any,
) -> Comparison:
    grid = {"masking.prob": [0.1, 0.15, 0.2, 0.3, 0.4]} if grid is None else grid
    points = [dict(zip(grid, point, strict=True)) for point in itertools.product(*grid.values())]
    brief = short_keys([*grid])
    labels = [
        ", ".join(f"{brief[key]}={value_text(value)}" for key, value in point.items()) or ALL_RUNS
        for point in points
    ]
    runs = [
        _run(label, point, seed, effect(point), spread)
        for label, point in zip(labels, points, strict=True)
        for seed in range(seeds)
    ]
    settings = [
        _setting(label, point, [run for run in runs if run.setting == label])
        for label, point in zip(labels, points, strict=True)
    ]
    baseline = labels[1] if len(labels) > 1 else None
    differences = [
        _difference(label, baseline, runs) for label in labels if baseline and label != baseline
    ]
    comparison = Comparison(
        metric="eval/loss",
        lower_is_better=True,
        at="predicted_tokens",
        budget=float(STEPS[-1]),
        keys=tuple(grid),
        baseline=baseline,
        ranked=True,
        warnings=(),
        settings=tuple(sorted(settings, key=lambda s: s.mean or 0)),
        differences=tuple(differences),
        runs=tuple(runs),
    )
    return replace(comparison, **changes)


def _run(
    label: str, point: Mapping[str, Any], seed: int, level: float, spread: float
) -> ComparedRun:
    # Runs with the same seed share a part of their luck: that is why they are paired.
    shared = np.random.default_rng(seed).normal() * spread
    own = np.random.default_rng([seed, *label.encode()])
    value = float(level + shared + own.normal() * spread / 2)
    curve = value + 4.6 * np.exp(-STEPS / 1.6e5) + own.normal(size=len(STEPS)) * spread / 2
    curve[-1] = value
    train = float(point.get("masking.prob", 0.15))
    by_rate = {
        f"eval/loss@{rate:g}": value + 1.1 * (rate - 0.45) + 0.5 * (rate - train) ** 2
        for rate in EVALUATION_RATES
    }
    folder = label.replace(", ", ",")
    return ComparedRun(
        folder=f"outputs/sweeps/mask_rate/{folder},seed={seed}",
        name=f"{folder or 'mlm'}-s{seed}",
        status="finished",
        error=None,
        seed=seed,
        setting=label,
        value=value,
        metrics={"eval/loss": value, "eval/loss@rare": value + 2} | by_rate,
        curve=tuple(zip(STEPS.tolist(), curve.tolist(), strict=True)),
    )


def _setting(label: str, point: dict[str, Any], runs: Sequence[ComparedRun]) -> Setting:
    values = np.array([run.value for run in runs if run.value is not None])
    mean = float(values.mean())
    if len(values) < 2:
        return Setting(label, point, len(values), len(values), mean, None, None, None)
    deviation = float(values.std(ddof=1))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * deviation / len(values) ** 0.5
    return Setting(
        label, point, len(values), len(values), mean, deviation, mean - half, mean + half
    )


def _difference(label: str, baseline: str, runs: Sequence[ComparedRun]) -> Difference:
    by_seed = {
        name: {run.seed: run.value for run in runs if run.setting == name}
        for name in (label, baseline)
    }
    gaps = np.array([(by_seed[label][s] or 0) - (v or 0) for s, v in by_seed[baseline].items()])
    mean = float(gaps.mean())
    if len(gaps) < 2:
        return Difference(label, 1, mean, None, None, None, None, "one seed", None)
    tested = stats.ttest_1samp(gaps, 0)
    low, high = (float(bound) for bound in tested.confidence_interval(0.95))
    resolved = "better" if mean < 0 else "worse"
    p = float(tested.pvalue)
    return Difference(
        *(label, len(gaps), mean, low, high, p, min(1.0, 4 * p)),
        verdict=resolved if 4 * p < 0.05 else "not resolved",
        seeds_needed=None if 4 * p < 0.05 else 7,
    )
