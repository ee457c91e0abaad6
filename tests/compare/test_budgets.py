"""Runs are read where they had spent the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertexp.compare.budgets import UNITS, common_budget, read_curve, value_at

POINTS = st.lists(
    st.tuples(st.integers(1, 1000), st.floats(-10, 10)),
    min_size=1,
    max_size=8,
    unique_by=lambda point: point[0],
).map(sorted)


@settings(deadline=None)
@given(POINTS, st.floats(0, 1100))
def test_between_evaluations_lies_a_straight_line_and_beyond_them_nothing(
    curve: list[tuple[float, float]], budget: float
) -> None:
    spent, values = zip(*curve, strict=True)
    found = value_at(curve, budget)
    if spent[0] <= budget <= spent[-1]:
        assert found == pytest.approx(np.interp(budget, spent, values))
    else:
        assert found is None


@settings(deadline=None)
@given(st.lists(POINTS, min_size=1, max_size=5))
def test_the_common_budget_is_the_largest_that_all_have_reached(
    curves: list[list[tuple[float, float]]],
) -> None:
    budget = common_budget(curves)
    assert budget is not None
    assert all(curve[-1][0] >= budget for curve in curves)
    assert any(curve[-1] == (budget, value_at(curve, budget)) for curve in curves)


def test_an_evaluation_is_found_in_every_unit_it_was_logged_in() -> None:
    history = [
        {"step": 5, "train/loss": 3.0, "train/tokens": 50},
        {"step": 10, "eval/loss": 2.0, "train/tokens": 100, "train/seconds": 0.5},
        {"step": 20, "eval/loss": None, "train/tokens": 200, "train/seconds": 1.5},
    ]
    assert read_curve(history, "eval/loss", "tokens")[0] == (100, 2.0)
    assert [spent for spent, _ in read_curve(history, "eval/loss", "time")] == [0.5, 1.5]
    assert math.isnan(read_curve(history, "eval/loss", "steps")[1][1])
    assert read_curve(history, "eval/loss", "flops") == []
    assert set(UNITS) == {"steps", "tokens", "predicted_tokens", "time", "flops"}
    assert common_budget([[], []]) is None
