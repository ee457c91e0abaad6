"""The plots of a comparison, and the numbers they draw."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from bertexp.compare import figures
from bertexp.compare.plots import curves_figure, metric_figure, write_plots
from bertexp.compare.results import ComparedRun, Results, Setting
from bertexp.plotting import STYLE

Simulate = Callable[..., Results]
RATES = {"masking.prob": [0.15, 0.4]}
STRATEGIES = {"masking.strategy": ["token", "span", "pmi"]}
HOSTILE = ["$\\frac{$", "_hidden", "%s {x}", "a" * 300]


def without_values(comparison: Results) -> Results:
    """Return a comparison before any run was evaluated."""
    empty = {"mean": None, "deviation": None, "low": None, "high": None, "runs": 0}
    return replace(
        comparison,
        budget=None,
        differences=(),
        settings=tuple(replace(s, **empty) for s in comparison.settings),
        runs=tuple(
            replace(run, status="running", value=None, curve=(), metrics={})
            for run in comparison.runs
        ),
    )


@pytest.mark.parametrize(
    ("grid", "options", "expected"),
    [
        (None, {}, ["metric.png", "curves.png", "rates.png"]),
        (None, {"seeds": 1}, ["metric.png", "curves.png", "rates.png"]),
        (STRATEGIES, {"ranked": False}, ["metric.png", "curves.png", "rates.png"]),
        (RATES | STRATEGIES, {"at": "time"}, ["metric.png", "curves.png", "rates.png"]),
        ({"dataset.name": HOSTILE}, {}, ["metric.png", "curves.png", "rates.png"]),
        ({"trainer.batch_size": list(range(1, 61))}, {"seeds": 2}, None),
        ({}, {}, ["curves.png"]),
    ],
)
def test_writes_what_there_are_numbers_for(
    simulate: Simulate,
    tmp_path: Path,
    grid: dict[str, list[Any]] | None,
    options: dict[str, Any],
    expected: list[str] | None,
) -> None:
    written = write_plots(simulate(grid, **options), tmp_path)
    expected = expected or ["metric.png", "curves.png", "rates.png"]
    assert [path.name for path in written] == expected
    assert sorted(written) == sorted((tmp_path).iterdir())
    for path in written:
        height, width, _ = imread(path).shape
        assert width >= 800 and 200 <= height <= 5000


def test_leaves_matplotlib_as_it_was(simulate: Simulate, tmp_path: Path) -> None:
    before = {key: matplotlib.rcParams[key] for key in STYLE}
    assert write_plots(without_values(simulate()), tmp_path) == []
    write_plots(simulate(RATES), tmp_path)
    assert {key: matplotlib.rcParams[key] for key in STYLE} == before
    code = "import sys, bertexp.compare.plots; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_metric_is_drawn_against_a_numeric_key_or_by_rows(simulate: Simulate) -> None:
    comparison = simulate(RATES)
    figure = metric_figure(comparison)
    assert figure is not None
    (axes,) = figure.axes
    assert axes.get_xlabel() == "masking.prob"
    assert axes.get_ylabel() == "eval/loss (nats)"
    assert axes.get_xticks().tolist() == [0.15, 0.4]
    low, high = axes.get_ylim()
    assert all(low < run.value < high for run in comparison.runs if run.value is not None)
    figure = metric_figure(simulate({"dataset.name": HOSTILE}))
    assert figure is not None
    (axes,) = figure.axes
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert sorted(labels[:4]) == sorted([*HOSTILE[:3], "a" * 21 + "…" + "a" * 21])


@pytest.mark.parametrize(
    ("grid", "key", "series"),
    [
        (RATES, "masking.prob", {""}),
        (STRATEGIES, None, {""}),
        (
            RATES | STRATEGIES,
            "masking.prob",
            {f"strategy={name}" for name in STRATEGIES["masking.strategy"]},
        ),
        ({"a": [1, 2], "b": [1, 2, 3]}, "b", {"a=1", "a=2"}),
        ({"masking.dynamic": [True, False]}, None, {""}),
        ({"masking.corrupt_prob": [0.15, None]}, None, {""}),
        ({"a": [0.1, 0.2], "b": list("abcdefgh")}, None, {""}),
    ],
)
def test_the_key_with_the_most_numbers_is_the_axis(
    simulate: Simulate, grid: dict[str, list[Any]], key: str | None, series: set[str]
) -> None:
    comparison = simulate(grid, effect=lambda _: 2.4)
    assert figures.x_key(comparison) == key
    assert {s.series for s in figures.drawn(comparison)} == series


def test_a_mean_curve_is_the_mean_where_all_seeds_are(simulate: Simulate) -> None:
    comparison = simulate(RATES)
    first, *others = comparison.runs
    # The same curve, evaluated half as often, and a run that failed early.
    sparse = replace(first, curve=first.curve[1::2])
    failed = replace(first, value=None, status="failed", curve=first.curve[:3])
    thinned = replace(comparison, runs=(sparse, failed, *others))
    (drawn,) = (s for s in figures.drawn(thinned) if s.setting.label == first.setting)
    curves = [dict(run.curve) for run in comparison.runs if run.setting == first.setting]
    mean = dict(drawn.mean_curve)
    assert list(mean) == [x for x, _ in first.curve][1:]
    for x, _ in sparse.curve:
        assert mean[x] == pytest.approx(np.mean([curve[x] for curve in curves]))


@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9),
    half=st.one_of(st.none(), st.floats(0, 1e9)),
)
def test_the_window_shows_every_run_and_is_no_wider_than_it_needs(
    values: list[float], half: float | None
) -> None:
    mean = min(max(float(np.mean(values)), min(values)), max(values))
    low, high = (None, None) if half is None else (mean - half, mean + half)
    setting = Setting("a", {}, len(values), len(values), mean, None, low, high)
    runs = [ComparedRun("", "", "finished", None, 0, "a", value, {}, ()) for value in values]
    entry = figures.Drawn(setting, tuple(runs), "a", None, "", 0, 0, None, ())
    low, high = figures.metric_window([entry])
    span = max(values) - min(values) or max(abs(max(values)), 1e-9) * 0.05
    assert low < min(values) and max(values) < high
    assert high - low <= 2.7 * span


def test_the_curve_of_a_single_run_is_whole_and_named_after_it(simulate: Simulate) -> None:
    (axes,) = curves_figure(comparison := simulate({}, seeds=1)).axes
    (run,) = comparison.runs
    low, high = axes.get_ylim()
    assert all(low < value < high for _, value in run.curve)
    assert [entry.name for entry in figures.drawn(comparison)] == [run.name]


def test_rates_are_no_slices_and_only_of_finished_runs(simulate: Simulate) -> None:
    comparison = simulate()
    first = comparison.runs[0]
    running = replace(first, status="running", metrics=dict.fromkeys(first.metrics, 99.0))
    found = figures.rates(replace(comparison, runs=(running, *comparison.runs[1:])))
    assert found is not None
    assert found.rates == [0.15, 0.4, 0.8]
    assert found.names == ["0.1", "0.15", "0.2", "0.3", "0.4"]
    assert found.losses_SR.max() < 99
    assert (found.excess_SR.min(axis=0) == 0).all()
