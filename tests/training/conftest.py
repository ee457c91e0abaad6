"""A small run to train, as a new process would begin it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from bertexp.config import Config
from bertexp.experiment.prepare import Data
from bertexp.families.build import build_model
from bertexp.objectives.batch import Batch
from bertexp.objectives.learner import Learner
from bertexp.training.bad_steps import BadSteps
from bertexp.training.budget import Budget
from bertexp.training.loop import Training
from bertexp.training.setup import build_accelerator, build_optimizer
from bertexp.training.state import Window

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
        steps: Iterable[list[Batch]] = (),
        budget: int = 9,
        limit: int = 3,
        kind: type[Learner] = Learner,
        **callbacks: Any,
    ) -> Training:
        data = prepared()
        config = experiment_config(*SMALL, *overrides)
        accelerator = build_accelerator(config.hardware, [])
        model = build_model(config.model, data.task.heads, data.tokenizer, 128, seed)
        learner = kind(model, data.task.objectives)
        objective, optimizer = accelerator.prepare(
            learner, build_optimizer(config.optimizer, learner)
        )
        return Training(
            objective=objective,
            weights=data.task.weights,
            optimizer=optimizer,
            accelerator=accelerator,
            steps=steps,
            budget=Budget(budget, None, None),
            trainer=config.trainer,
            scheduler=config.scheduler,
            machine_flops=1e9,
            bad_steps=BadSteps(limit),
            window=Window(data.task.weights),
            **callbacks,
        )

    return setup
