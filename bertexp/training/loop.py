"""The training loop, and the phases of a run that it trains."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from accelerate import Accelerator
from torch import nn

from bertexp import group
from bertexp.objectives.batch import Batch
from bertexp.objectives.examples import Examples
from bertexp.objectives.head import Head
from bertexp.training.budget import Budget, learning_rate_factor
from bertexp.training.config import TrainingConfig
from bertexp.training.graphs import RecordedSteps
from bertexp.training.plan import BatchPlan
from bertexp.training.state import Tally, TrainState, Window
from bertexp.training.step import BadSteps, compute_step


class Callbacks:
    """What the loop calls between steps; this one does nothing."""

    # Steps between two evaluations; None for no evaluation.
    every: int | None = None

    def log(self, fraction: float, metrics: dict[str, float]) -> None:
        """Log metrics, at a fraction of the budget from 0 to 1."""

    def evaluate(self) -> None:
        """Evaluate, and set ``TrainState.stopped`` to end training early."""

    def step(self) -> None:
        """Run after everything else in a step; an exception ends training."""


@dataclass(frozen=True)
class Phase:
    """A share of the budget, from ``low`` to ``high``; most runs have only one phase.

    Attributes:
        weights: the factor of each head's mean loss.
        predicts_tokens: whether tokens are predicted over the vocabulary.
        restarts, restarts_masking: whether the schedule of the learning rate, and that of the
            masking, are over the phase, not over the whole run.
        facts: the lines of the plan that only this phase has.
    """

    config: TrainingConfig
    heads: Sequence[Head]
    weights: Mapping[str, float]
    examples: Examples
    predicts_tokens: bool = False
    low: float = 0.0
    high: float = 1.0
    restarts: bool = False
    restarts_masking: bool = False
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_last(self) -> bool:
        return self.high == 1

    def overall(self, share: float) -> float:
        """Return the share of the whole budget at a share of the phase."""
        return self.low + (self.high - self.low) * share

    def scheduled(self, share: float) -> float:
        """Return the progress of the learning rate's schedule at a share of the phase."""
        return share if self.restarts else self.overall(share)

    def masked(self, share: float) -> float:
        """Return the progress of the masking's schedule at a share of the phase."""
        return share if self.restarts_masking else self.overall(share)


@dataclass
class Training:
    """A model, its optimizer and a phase's batches, ready for ``train``.

    Attributes:
        learner, optimizer: as ``Accelerator.prepare`` returns them; the learner's forward returns
            summed losses, see ``Learner``.
        batches: this process's share of each step.
        machine_flops: floating-point operations a second of a matrix product, all processes
            together; ``train/mfu`` is the share of it that training reaches.
        tokens_per_step: the mean, without padding.
        pace: returns the mean seconds of a step's forward and backward passes, measured when
            it is first called: most jobs of a sweep need no estimate.
        recorded: whether steps are recorded and replayed, see ``RecordedSteps``.
        compiled: whether steps are compiled, those of the shapes that most batches have.
        unable: which of the keys ``graphs`` and ``compile`` have failed; all phases share it.
    """

    phase: Phase
    accelerator: Accelerator
    learner: nn.Module
    optimizer: torch.optim.Optimizer
    batches: BatchPlan
    budget: Budget
    state: TrainState
    window: Window
    bad_steps: BadSteps
    machine_flops: float
    tokens_per_step: float
    pace: Callable[[], float]
    recorded: bool = False
    compiled: bool = False
    unable: set[str] = field(default_factory=set)

    @property
    def config(self) -> TrainingConfig:
        return self.phase.config

    @property
    def weights(self) -> Mapping[str, float]:
        return self.phase.weights


def train(training: Training, steps: Iterator[list[Batch]], callbacks: Callbacks) -> None:
    """Train until the phase's budget is spent; ``steps`` yields this process's share of each step.

    The loss of a step is the sum over the predictions of all its batches, divided by their
    number: it does not depend on how the step is split into batches and among processes.
    """
    run, state, trainer = training, training.state, training.config.trainer
    compute = RecordedSteps(run) if run.recorded else partial(compute_step, run)
    learner = run.accelerator.unwrap_model(run.learner)
    fraction = run.budget.fraction(state)
    if fraction >= 1 and run.window.seconds:
        # Resumed with nothing left to train: log the steps since the last line.
        _log(run, callbacks, fraction, {})
    while fraction < 1:
        clock = time.perf_counter()  # evaluating and saving are not training time
        batches = next(steps)
        rate = _learning_rate(run)
        for parameters in run.optimizer.param_groups:
            parameters["lr"] = rate
        tally = Tally.of(batches, sum(map(learner.flops, batches))).over_all_processes()
        losses, norm, good = compute(batches, tally.predictions)
        run.bad_steps.note(state, batches, good)
        _wait_before_reading(run, callbacks)
        (elapsed,) = group.largest([time.perf_counter() - clock])
        run.window.add(losses, good, tally, elapsed)
        state.add(tally, elapsed)
        fraction = run.budget.fraction(state)
        at_border = fraction >= 1 and not run.phase.is_last
        if callbacks.every and (at_border or (fraction < 1 and state.step % callbacks.every == 0)):
            callbacks.evaluate()
            run.learner.train()
            fraction = run.budget.fraction(state)
        if state.step % trainer.log_every == 0 or fraction >= 1:
            rates = {"train/learning_rate": rate, "train/grad_norm": float(norm)}
            _log(run, callbacks, fraction, rates)
        callbacks.step()


def _learning_rate(run: Training) -> float:
    optimizer, scheduler = run.config.optimizer, run.config.scheduler
    assert optimizer.lr is not None
    progress = run.phase.scheduled(run.budget.midway(run.state))
    return optimizer.lr * learning_rate_factor(scheduler, progress)


def _wait_before_reading(run: Training, callbacks: Callbacks) -> None:
    """Wait for the GPU before its results are read, so that its work counts as training time.

    Reading them waits as well, but only after the clock has been read.
    """
    intervals = (run.config.trainer.log_every, callbacks.every)
    is_read = any(every and (run.state.step + 1) % every == 0 for every in intervals)
    if is_read and run.accelerator.device.type == "cuda":
        torch.cuda.synchronize()


def _log(run: Training, callbacks: Callbacks, fraction: float, rates: dict[str, float]) -> None:
    window = run.window
    run.state.loss_sum += window.loss
    mfu = {"train/mfu": window.tally.flops / window.seconds / run.machine_flops}
    callbacks.log(fraction, window.metrics() | rates | mfu)
    run.window = Window(run.weights)
