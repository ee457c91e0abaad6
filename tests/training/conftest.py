"""A small run to train, as a new process would begin it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bertexp.config import Config
from bertexp.experiment.prepare import Data
from bertexp.families.build import build_model
from bertexp.objectives.learner import Learner
from bertexp.training.budget import Budget
from bertexp.training.loop import Phase, Training
from bertexp.training.optimizers import build_optimizer
from bertexp.training.plan import BatchPlan
from bertexp.training.setup import build_accelerator
from bertexp.training.state import TrainState, Window
from bertexp.training.step import BadSteps

SMALL = (
    *("model.hidden_size=16", "model.intermediate_size=16", "trainer.batch_size=4"),
    *("hardware=cpu", "hardware.threads=1", "trainer.save_every=null"),
)


@pytest.fixture
def begin(
    experiment_config: Callable[..., Config], prepared: Callable[..., Data]
) -> Callable[..., Training]:
    """Return a function that sets up the training of ``prepared()``."""

    def setup(
        *overrides: str,
        seed: int = 0,
        budget: int = 9,
        limit: int = 3,
        kind: type[Learner] = Learner,
    ) -> Training:
        data = prepared()
        config = experiment_config(*SMALL, *overrides)
        accelerator = build_accelerator(config.hardware, [])
        model = build_model(config.family, config.model, data.task.heads, data.tokenizer, 128, seed)
        learner = kind(model, data.task.objectives)
        learner, optimizer = accelerator.prepare(
            learner, build_optimizer(config.optimizer, learner)
        )
        return Training(
            phase=Phase(config, data.task.objectives, data.task.weights, data.examples),
            accelerator=accelerator,
            learner=learner,
            optimizer=optimizer,
            batches=BatchPlan(data.examples, 4, 1, 0),
            budget=Budget(budget, None, None),
            state=TrainState(),
            window=Window(data.task.weights),
            bad_steps=BadSteps(limit),
            machine_flops=1e9,
            tokens_per_step=1.0,
            pace=lambda: 1.0,
        )

    return setup
