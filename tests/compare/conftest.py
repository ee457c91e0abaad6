"""What the comparison's tests share: comparisons of simulated runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertexp.compare.comparison import compare
from bertexp.compare.results import Results
from bertexp.compare.runs import Record
from bertexp.compare.settings import group
from bertexp.console import value_text

STEPS = np.linspace(0, 1e6, 21)[1:]
EVALUATION_RATES = (0.15, 0.4, 0.8)


def masking_effect(values: Mapping[str, Any]) -> float:
    """A loss that is lowest at a masking rate of 0.4."""
    return 2.4 + 1.2 * (float(values.get("masking.prob", 0.4)) - 0.4) ** 2


@pytest.fixture(scope="session")
def simulate() -> Callable[..., Results]:
    """Return a function that compares simulated runs, one a setting and seed."""
    return _simulate


def _simulate(
    grid: Mapping[str, Sequence[Any]] | None = None,
    *,
    seeds: int = 3,
    effect: Callable[[Mapping[str, Any]], float] = masking_effect,
    spread: float = 0.012,
    at: str = "predicted_tokens",
    **changes: Any,
) -> Results:
    """The second value of each key's grid is the baseline; ``changes`` are to the comparison."""
    grid = {"masking.prob": [0.1, 0.15, 0.2, 0.3, 0.4]} if grid is None else grid
    points = [dict(zip(grid, point, strict=True)) for point in itertools.product(*grid.values())]
    runs = [_run(point, seed, effect(point), spread) for point in points for seed in range(seeds)]
    labels = list(dict.fromkeys(run.setting for run in group(runs, [*grid])[2]))
    baseline = labels[1] if len(labels) > 1 else None
    found = compare(runs, by=[*grid], baseline=baseline, at=at)
    return replace(found, **{"warnings": (), "effects": (), **changes})


def _run(point: Mapping[str, Any], seed: int, level: float, spread: float) -> Record:
    # Runs with the same seed share a part of their luck: that is why they are paired.
    shared = np.random.default_rng(seed).normal() * spread
    label = ",".join(f"{key}={value_text(value)}" for key, value in point.items())
    own = np.random.default_rng([seed, *label.encode()])
    value = float(level + shared + own.normal() * spread / 2)
    curve = value + 4.6 * np.exp(-STEPS / 1.6e5) + own.normal(size=len(STEPS)) * spread / 2
    curve[-1] = value
    train = float(point.get("masking.prob", 0.15))
    metrics = {"eval/loss": value, "eval/loss@rare": value + 2} | {
        f"eval/loss@{rate:g}": value + 1.1 * (rate - 0.45) + 0.5 * (rate - train) ** 2
        for rate in EVALUATION_RATES
    }
    spent = ("step", "train/predicted_tokens", "train/seconds")
    history = [
        {**dict.fromkeys(spent, float(step)), "eval/loss": float(loss)}
        for step, loss in zip(STEPS, curve, strict=True)
    ]
    folder = Path(f"outputs/sweeps/mask_rate/{label},seed={seed}")
    config = {"seed": seed, "name": None, **point}
    summary = {"tracker_id": f"{label or 'mlm'}-s{seed}-0123abcd", "metrics": metrics}
    return Record(folder, config, summary, history, "finished", None, 0.0)
