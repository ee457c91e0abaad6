"""Budgets and schedules: whichever limit ends first, and a rate that follows it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import get_scheduler

from bertexp.config import Config
from bertexp.training.budget import Budget, learning_rate_factor, steps_ahead
from bertexp.training.config import SchedulerConfig
from bertexp.training.state import TrainState

LIMITS = st.one_of(st.none(), st.integers(1, 10**6))


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        (["trainer.epochs=3"], 30),
        (["trainer.epochs=0.5"], 5),
        (["trainer.epochs=0.01"], 1),
        (["trainer.epochs=0.21"], 3),
        (["trainer.epochs=3", "trainer.max_steps=7"], 7),
        (["trainer.epochs=3", "trainer.max_steps=70"], 30),
        (["trainer.epochs=null", "trainer.max_steps=70"], 70),
        (["trainer.epochs=null", "trainer.max_tokens=9", "trainer.max_time=1.5"], None),
    ],
)
def test_epochs_and_steps_become_steps(
    experiment_config: Callable[..., Config], overrides: list[str], steps: int | None
) -> None:
    budget = Budget.of(experiment_config(*overrides).trainer, steps_per_epoch=10)
    assert budget.steps == steps
    assert budget.seconds == (90 if steps is None else None), "max_time is in minutes"


@given(
    steps=LIMITS, tokens=LIMITS, seconds=LIMITS,
    per_step=st.integers(1, 10**4), pace=st.floats(1e-3, 1e3),
)  # fmt: skip
def test_whichever_limit_is_reached_first_ends_the_run(
    steps: int | None, tokens: int | None, seconds: int | None, per_step: int, pace: float
) -> None:
    limits = [
        math.inf if steps is None else steps,
        math.inf if tokens is None else tokens / per_step,
        math.inf if seconds is None else seconds / pace,
    ]
    if min(limits) == math.inf:
        return
    budget = Budget(steps, tokens, seconds)

    def after(step: int) -> TrainState:
        return TrainState(step=step, tokens=step * per_step, seconds=step * pace)

    last = math.ceil(min(limits) * (1 - 1e-12))
    assert budget.fraction(after(last + 1)) >= 1
    assert budget.fraction(after(last - 1)) < 1
    assert abs(budget.expected_steps(TrainState(), per_step, pace) - last) <= 1
    # Resumed anywhere it ends there too; resumed beyond its end it has no step left.
    assert abs(budget.expected_steps(after(last // 2), per_step, pace) - last) <= 1
    assert budget.expected_steps(after(2 * last), per_step, pace) == 2 * last
    fractions = [budget.fraction(after(step)) for step in range(0, last, max(1, last // 10))]
    assert fractions == sorted(fractions)


def test_a_run_resumed_with_larger_steps_sees_the_epochs_that_are_left(
    experiment_config: Callable[..., Config],
) -> None:
    # All 800 examples were seen six times, 8 at a step; now it takes 32.
    since = {"ahead": 0, "start": {}}
    progress = {"step": 600, "steps_per_epoch": 100, "state": {"examples": 4800}} | since
    assert steps_ahead(progress, 800, 100) == 0
    ahead = steps_ahead(progress, 800, 25)
    assert 600 + ahead == 6 * 25, "its place in the data"
    budget = Budget.of(experiment_config("trainer.epochs=10").trainer, 25, ahead)
    assert budget.expected_steps(TrainState(step=600), 1.0, 1.0) == 600 + 4 * 25
    # A mask schedule by tokens continues where it was.
    by_tokens = Budget(None, 10 * 25 * 7, None, ahead)
    assert by_tokens.progress(600, 7.0, 0.0) == pytest.approx(0.6 + 0.5 / 250)
    # Resumed once more, with the same steps.
    again = {"step": 650, "steps_per_epoch": 25, "ahead": ahead, "state": {"examples": 6400}}
    assert steps_ahead(again, 800, 25) == ahead
    # There are fewer epochs in the budget than it has seen.
    assert Budget.of(experiment_config("trainer.epochs=1").trainer, 25, 40).steps == 1


def test_what_a_step_spends_beyond_a_limit_is_reported() -> None:
    state = TrainState(step=1, tokens=772, seconds=3.0)
    assert Budget(1, 760, 2.9).overshoot(state) is None
    found = Budget(None, 1, 0.6).overshoot(state)
    expected = "772 tokens for trainer.max_tokens=1, 0.05 minutes for trainer.max_time=0.01: "
    assert found is not None
    assert found.startswith(expected)


SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


@pytest.mark.parametrize("warm", [0, 20, 180])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_those_of_transformers(name: str, warm: int) -> None:
    steps = 200
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = get_scheduler(SCHEDULES[name], optimizer, warm, steps)
    scheduler = SchedulerConfig(name=name, warmup=warm / steps)
    for step in range(steps + 1):
        factor = learning_rate_factor(scheduler, step / steps)
        assert factor == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        theirs.step()
    # The last step of a budget of tokens or time goes beyond it.
    beyond = learning_rate_factor(scheduler, 1.3)
    assert beyond == pytest.approx(float(name == "constant"), abs=1e-12)


@pytest.mark.parametrize(
    "budget", [Budget(10, None, None), Budget(None, 1000, None), Budget(None, None, 60.0)]
)
@pytest.mark.parametrize("name", SCHEDULES)
def test_no_step_is_wasted_at_a_rate_of_zero(budget: Budget, name: str) -> None:
    scheduler = SchedulerConfig(name=name, warmup=0.1)
    # Ten steps of 100 tokens and six seconds each.
    states = [TrainState(step=n, tokens=n * 100, seconds=n * 6.0) for n in range(10)]
    factors = [learning_rate_factor(scheduler, budget.midway(state)) for state in states]
    assert min(factors) > 0
    assert np.mean(factors) > 0.4
