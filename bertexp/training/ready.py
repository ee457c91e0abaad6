"""What the loop begins with, put together from the configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.fsdp import register_fsdp_forward_method

from bertexp.families.compiled import compile_layers
from bertexp.objectives.batch import Batch
from bertexp.objectives.examples import Examples
from bertexp.processes import group
from bertexp.training.bad_steps import BadSteps
from bertexp.training.budget import Budget, steps_ahead
from bertexp.training.loop import Training, measure_seconds_per_token
from bertexp.training.plan import BatchPlan
from bertexp.training.setup import build_optimizer
from bertexp.training.state import TrainState, Window
from bertexp.training.throughput import machine_flops

if TYPE_CHECKING:
    from bertexp.config import RunConfig
    from bertexp.training.checkpoints import Checkpoint


# Steps that are measured at most.
SAMPLED = 8


@dataclass(frozen=True)
class Ready:
    """A model that is ready to be trained, on this process's share of the examples.

    Attributes:
        config, weights, accelerator: what it was made of.
        objective, optimizer: as ``Accelerator.prepare`` gives them.
        batches: which examples each step has.
        budget: when to stop.
        state: where training begins.
        tokens_per_step: on average, padding not counted.
        step_seconds: for forward and backward of a step, on average.
    """

    config: RunConfig
    weights: Mapping[str, float]
    accelerator: Accelerator
    objective: nn.Module
    optimizer: torch.optim.Optimizer
    batches: BatchPlan
    budget: Budget
    state: TrainState
    tokens_per_step: float
    step_seconds: float

    @property
    def steps(self) -> int:
        """After which the budget ends the run, at the speed that was measured."""
        return self.budget.expected_steps(self.state, self.tokens_per_step, self.step_seconds)

    def training(self, steps: Iterable[list[Batch]]) -> Training:
        """Return what the loop works with, on these steps, when nobody watches."""
        return Training(
            objective=self.objective,
            weights=self.weights,
            optimizer=self.optimizer,
            accelerator=self.accelerator,
            steps=steps,
            budget=self.budget,
            trainer=self.config.trainer,
            scheduler=self.config.scheduler,
            machine_flops=machine_flops(self.accelerator),
            bad_steps=BadSteps(self.config.trainer.max_bad_steps),
            window=Window(self.weights),
        )


def get_ready(
    config: RunConfig,
    examples: Examples,
    weights: Mapping[str, float],
    objective: nn.Module,
    accelerator: Accelerator,
    checkpoint: Checkpoint | None = None,
) -> Ready:
    """Put a model, an optimizer and batches together, and measure a step.

    Args:
        config: how to train.
        examples: what is trained on.
        weights: what the mean loss of each objective is multiplied with.
        objective: the model and its losses, on its device.
        accelerator: device, precision and processes.
        checkpoint: what training resumes from; its weights are not read here.
    """
    trainer = config.trainer
    batches = BatchPlan(
        examples,
        trainer.batch_size,
        trainer.gradient_accumulation_steps,
        config.seed,
        group.rank(),
        group.size(),
        few_shapes=config.hardware.compile,
    )
    if config.hardware.compile:
        compile_layers(objective, batches.shapes)
    optimizer = build_optimizer(config.optimizer, objective)
    objective, optimizer = accelerator.prepare(objective, optimizer)
    if accelerator.is_fsdp2:
        register_fsdp_forward_method(objective, "logits")
    tokens = float(examples.lengths(0).sum() / batches.steps_per_epoch)
    # The first one is not like all others: batches differ in length.
    sample = (batches[number] for number in batches.spread(SAMPLED))
    progress = checkpoint.progress if checkpoint else {}
    per_epoch = batches.steps_per_epoch
    ahead = steps_ahead(progress, len(examples), per_epoch) if progress else 0
    return Ready(
        config=config,
        weights=weights,
        accelerator=accelerator,
        objective=objective,
        optimizer=optimizer,
        batches=batches,
        budget=Budget.of(trainer, per_epoch, ahead),
        state=TrainState(**progress.get("state", {})),
        tokens_per_step=tokens,
        step_seconds=tokens * measure_seconds_per_token(objective, accelerator, sample, weights),
    )
