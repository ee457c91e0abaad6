"""Steps that are not finite change nothing, and too many of them end the run."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from bertexp.config import Config
from bertexp.experiment.prepare import Data
from bertexp.families.build import build_model
from bertexp.objectives.batch import Batch
from bertexp.objectives.learner import Learner
from bertexp.training.bad_steps import BadSteps
from bertexp.training.budget import Budget
from bertexp.training.loop import Training, train
from bertexp.training.plan import BatchPlan
from bertexp.training.setup import build_accelerator, build_optimizer
from bertexp.training.state import Window
from bertexp.validation import UserError

STEPS = 8


class Spoilt(Learner):
    """A learner whose loss is multiplied with a number on chosen steps.

    With infinity or NaN the loss is not finite; with a large number the gradient is not.
    """

    def __init__(self, model: Any, data: Data, factors: dict[int, float]) -> None:
        super().__init__(model, data.task.objectives)
        self.factors = factors
        self.step = 0

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        factor = self.factors.get(self.step, 1.0)
        self.step += 1
        return {name: loss * factor for name, loss in super().forward(batch).items()}


@pytest.fixture
def trained(
    experiment_config: Callable[..., Config], prepared: Callable[..., Data]
) -> Callable[..., Any]:
    """Return a function that trains with bad steps; gives the run, its lines and its weights."""

    def run(factors: dict[int, float], limit: int = 3) -> tuple[Any, ...]:
        data = prepared()
        config = experiment_config(
            *("model.hidden_size=16", "model.intermediate_size=16", "hardware=cpu"),
            *("hardware.threads=1", "trainer.epochs=null", f"trainer.max_steps={STEPS}"),
            *("trainer.batch_size=4", "trainer.log_every=2", "scheduler=constant"),
            *("scheduler.warmup=0", "optimizer.weight_decay=0.1"),
        )
        accelerator = build_accelerator(config.hardware, [])
        model = build_model(config.model, data.task.heads, data.tokenizer, 128, 0)
        objective: nn.Module = Spoilt(model, data, factors)
        optimizer = build_optimizer(config.optimizer, objective)
        objective, optimizer = accelerator.prepare(objective, optimizer)
        plan = BatchPlan(data.examples, 4, 1, 0)
        lines: list[dict[str, float]] = []
        weights: list[dict[str, torch.Tensor]] = []
        weights.append(deepcopy(objective.state_dict()))
        training = Training(
            objective=objective,
            weights=data.task.weights,
            optimizer=optimizer,
            accelerator=accelerator,
            steps=(plan[step] for step in range(STEPS)),
            budget=Budget(STEPS, None, None),
            trainer=config.trainer,
            scheduler=config.scheduler,
            evaluate_every=None,
            on_log=lambda state, fraction, metrics: lines.append(metrics),
            on_evaluate=lambda state: None,
            on_step=lambda run: weights.append(deepcopy(run.objective.state_dict())),
            machine_flops=1e9,
            bad_steps=BadSteps(limit),
            window=Window(data.task.weights),
        )
        train(training)
        return training, lines, weights

    return run


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("factor", [math.nan, math.inf, 1e38])
def test_a_bad_step_changes_neither_weights_nor_optimizer(
    trained: Callable[..., Any],
    prepared: Callable[..., Data],
    caplog: pytest.LogCaptureFixture,
    factor: float,
) -> None:
    run, lines, weights = trained({3: factor})
    assert equal(weights[3], weights[4])
    assert not equal(weights[2], weights[3])
    assert not equal(weights[4], weights[5])
    assert all(torch.isfinite(tensor).all() for tensor in weights[-1].values())
    counts = {float(state["step"]) for state in run.optimizer.state.values()}
    assert counts == {STEPS - 1.0}
    assert run.state.step == STEPS
    assert run.state.bad_steps == 1
    # Its loss is in no mean, and it is named with its examples.
    assert [math.isfinite(line["train/loss"]) for line in lines] == [True] * 4
    ids = ", ".join(map(str, BatchPlan(prepared().examples, 4, 1, 0)[3][0].example_ids))
    (message,) = caplog.messages
    assert message.startswith("step 4 is skipped")
    assert message.endswith(f"its examples: {ids}")


def test_good_steps_are_as_if_there_had_been_no_bad_one(trained: Callable[..., Any]) -> None:
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
