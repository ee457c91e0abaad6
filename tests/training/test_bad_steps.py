"""Steps that are not finite change nothing, and too many of them end the run."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise
from typing import Any

import pytest
import torch
from calls import Calls

from bertexp.experiment.prepare import Data
from bertexp.objectives.batch import Batch
from bertexp.objectives.learner import Learner
from bertexp.training import graphs
from bertexp.training.loop import Callbacks, Training, train
from bertexp.training.plan import BatchPlan
from bertexp.validation import UserError

STEPS = 8


class Spoilt(Learner):
    """Multiplies the loss of chosen steps: NaN or infinity, or so much that the gradient is."""

    factors: dict[int, float]
    step = 0

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        factor = self.factors.get(self.step, 1.0)
        self.step += 1
        return {name: loss * factor for name, loss in super().forward(batch).items()}


@pytest.fixture
def plan(prepared: Callable[..., Data]) -> BatchPlan:
    return BatchPlan(prepared().examples, 4, 1, 0)


@pytest.fixture
def trained(
    begin: Callable[..., Training], plan: BatchPlan, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Return a function that trains with bad steps; gives the run, its lines and its weights."""
    monkeypatch.setattr(graphs, "CudaRecorder", Calls)

    def run(
        factors: dict[int, float], recorded: bool = False, optimizer: str = "adamw"
    ) -> tuple[Any, ...]:
        lines: list[dict[str, float]] = []
        weights: list[dict[str, torch.Tensor]] = []
        training = begin(
            *("trainer.log_every=2", "scheduler=constant", "scheduler.warmup=0"),
            *(f"optimizer={optimizer}", "optimizer.weight_decay=0.1"),
            kind=Spoilt,
            budget=STEPS,
        )
        learner: Any = training.learner
        learner.factors = factors
        weights.append(deepcopy(learner.state_dict()))

        class Recording(Callbacks):
            def log(self, fraction: float, metrics: dict[str, float]) -> None:
                lines.append(metrics)

            def step(self) -> None:
                weights.append(deepcopy(learner.state_dict()))

        training.recorded = recorded
        batches = plan.in_few_shapes(1) if recorded else plan
        train(training, (batches[step] for step in range(STEPS)), Recording())
        return training, lines, weights

    return run


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("optimizer", "recorded"), [("adamw", False), ("adamw", True), ("muon", False)]
)
@pytest.mark.parametrize("factor", [math.nan, math.inf, 1e38])
def test_a_bad_step_changes_neither_weights_nor_optimizer(
    trained: Callable[..., Any],
    plan: BatchPlan,
    caplog: pytest.LogCaptureFixture,
    factor: float,
    recorded: bool,
    optimizer: str,
) -> None:
    Calls.recorded = 0
    run, lines, weights = trained({3: factor}, recorded, optimizer)
    assert (Calls.recorded > 0) == recorded
    changes = [not equal(before, after) for before, after in pairwise(weights)]
    assert changes == [step != 3 for step in range(STEPS)]
    assert all(torch.isfinite(tensor).all() for tensor in weights[-1].values())
    states = run.optimizer.state.values()
    counts = {float(state["step"]) for state in states if "step" in state}
    assert all(torch.isfinite(each).all() for state in states for each in state.values())
    assert counts == {STEPS - 1.0}
    assert (run.state.step, run.state.bad_steps) == (STEPS, 1)
    # Its loss is in no mean, and its examples are named.
    assert [math.isfinite(line["train/loss"]) for line in lines] == [True] * 4
    (message,) = caplog.messages
    assert message.startswith("step 4 is skipped")
    assert message.endswith(f"its examples: {', '.join(map(str, plan[3][0].example_ids))}")


def test_a_bad_step_does_not_touch_the_good_ones(trained: Callable[..., Any]) -> None:
    _, plain, untouched = trained({})
    _, lines, weights = trained({STEPS - 1: math.nan})
    assert equal(untouched[STEPS - 1], weights[STEPS])
    losses, expected = ([line["train/loss"] for line in found] for found in (lines, plain))
    assert losses[:3] == expected[:3]


def test_a_line_of_bad_steps_alone_has_no_loss(trained: Callable[..., Any]) -> None:
    run, lines, _ = trained({2: math.nan, 3: math.nan})
    assert [math.isnan(line["train/loss"]) for line in lines] == [False, True, False, False]
    assert math.isfinite(run.state.mean_loss)


@pytest.mark.parametrize(("bad", "ends"), [([1, 2, 3], True), ([1, 2, 4, 5, 7], False)])
def test_only_so_many_in_a_row_end_the_run(
    trained: Callable[..., Any], bad: list[int], ends: bool
) -> None:
    factors = dict.fromkeys(bad, math.nan)
    if ends:
        with pytest.raises(UserError, match=r"^trainer\.max_bad_steps=3: .*step 4,"):
            trained(factors)
    else:
        assert trained(factors)[0].state.bad_steps == len(bad)
