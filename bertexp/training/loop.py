"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.fsdp import register_fsdp_forward_method

from bertexp import group
from bertexp.objectives.batch import Batch
from bertexp.objectives.examples import Examples
from bertexp.objectives.learner import Learner
from bertexp.training.bad_steps import BadSteps
from bertexp.training.budget import Budget, learning_rate_factor, steps_ahead
from bertexp.training.checkpoints import Checkpoint
from bertexp.training.config import TrainingConfig
from bertexp.training.machine import machine_flops
from bertexp.training.plan import BatchPlan
from bertexp.training.setup import build_optimizer
from bertexp.training.shards import whole
from bertexp.training.state import Tally, TrainState, Window

# Steps are measured for so long before training, and at most so many, to tell how long it takes.
MEASURED_SECONDS, MEASURED_STEPS = 1.0, 8


class Watch:
    """What the loop calls between steps. This one does nothing, as the benchmark wants it."""

    # Steps between two evaluations, None for none.
    every: int | None = None

    def log(self, fraction: float, metrics: dict[str, float]) -> None:
        """Take the metrics of a logged line, at a fraction of the budget."""

    def evaluate(self) -> None:
        """Evaluate; may end the run by ``TrainState.stopped``."""

    def step(self) -> None:
        """Do what follows a step, last of all; what it raises ends the training."""


@dataclass
class Training:
    """A model, its optimizer and its batches, ready to be trained.

    Attributes:
        weights: what each objective's mean loss is multiplied with before they are added up.
        learner, optimizer: as ``Accelerator.prepare`` gives them; the learner's forward gives
            summed losses, see ``Learner``.
        batches: what this process has of each step.
        machine_flops: floating-point operations a second of a matrix product, all processes
            together; ``train/mfu`` is the share of it that training reaches.
        tokens_per_step: on average, padding not counted.
        step_seconds: for forward and backward of a step, on average.
    """

    config: TrainingConfig
    weights: Mapping[str, float]
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
    step_seconds: float

    @property
    def expected_steps(self) -> int:
        return self.budget.expected_steps(self.state, self.tokens_per_step, self.step_seconds)


def prepare_training(
    config: TrainingConfig,
    examples: Examples,
    weights: Mapping[str, float],
    learner: Learner,
    accelerator: Accelerator,
    checkpoint: Checkpoint | None = None,
) -> Training:
    """Put a model, an optimizer and batches together, and measure a step.

    The tensors of ``checkpoint``, from which training resumes, are not read here.
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
        learner.family.compile(batches.shapes)
    optimizer = build_optimizer(config.optimizer, learner)
    learner, optimizer = accelerator.prepare(learner, optimizer)
    if accelerator.is_fsdp2:
        register_fsdp_forward_method(learner, "logits")
    # Batches differ in length: steps from all over an epoch, not the first ones.
    sample = (batches[number] for number in batches.spread(MEASURED_STEPS))
    seconds = measure_seconds_per_token(learner, accelerator, sample, weights)
    tokens = float(examples.lengths(0).sum() / batches.steps_per_epoch)
    progress = checkpoint.progress if checkpoint else {}
    per_epoch = batches.steps_per_epoch
    ahead = steps_ahead(progress, len(examples), per_epoch) if progress else 0
    return Training(
        config=config,
        weights=weights,
        accelerator=accelerator,
        learner=learner,
        optimizer=optimizer,
        batches=batches,
        budget=Budget.of(trainer, per_epoch, ahead),
        state=TrainState(**progress.get("state", {})),
        window=Window(weights),
        bad_steps=BadSteps(trainer.max_bad_steps),
        machine_flops=machine_flops(accelerator),
        tokens_per_step=tokens,
        step_seconds=tokens * seconds,
    )


def train(training: Training, steps: Iterator[list[Batch]], watch: Watch) -> None:
    """Train until the budget is spent, on this process's batches of each step, without end.

    The loss of a step is a sum over the predictions of all its batches, divided by their
    number: how a step is cut into batches and dealt to processes does not change it.
    """
    run, state, trainer = training, training.state, training.config.trainer
    learner = run.accelerator.unwrap_model(run.learner)
    peak = [parameters["lr"] for parameters in run.optimizer.param_groups]
    clip = trainer.gradient_clip or float("inf")
    fraction = run.budget.fraction(state)
    if fraction >= 1 and run.window.seconds:
        # Resumed with nothing left to train: the steps since its last line are logged here.
        _log(run, watch, fraction, {})
    while fraction < 1:
        clock = time.perf_counter()  # evaluating and saving are not training time
        batches = next(steps)
        factor = learning_rate_factor(run.config.scheduler, run.budget.midway(state))
        for parameters, rate in zip(run.optimizer.param_groups, peak, strict=True):
            parameters["lr"] = rate * factor
        flops = sum(learner.flops(batch) for batch in batches)
        tally = Tally.of(batches, flops).over_all_processes()
        losses = accumulate_gradients(
            run.learner, run.accelerator, batches, run.weights, tally.predictions
        )
        norm = whole(run.accelerator.clip_grad_norm_(run.learner.parameters(), clip))
        good = run.bad_steps.judge(run.optimizer, state, batches, norm, *losses.values())
        run.optimizer.step()
        run.optimizer.zero_grad()

        _wait_before_reading(run, watch)
        (elapsed,) = group.largest([time.perf_counter() - clock])
        run.window.add(losses, good, tally, elapsed)
        state.add(tally, elapsed)
        fraction = run.budget.fraction(state)
        if fraction < 1 and watch.every and state.step % watch.every == 0:
            watch.evaluate()
            run.learner.train()
            fraction = run.budget.fraction(state)
        if state.step % trainer.log_every == 0 or fraction >= 1:
            rates = {"train/learning_rate": peak[0] * factor, "train/grad_norm": float(norm)}
            _log(run, watch, fraction, rates)
        watch.step()


def _wait_before_reading(run: Training, watch: Watch) -> None:
    """Wait for a GPU after a step whose numbers are read, so that its work counts as training.

    These steps wait for it anyway, but by then the clock would have stopped.
    """
    intervals = (run.config.trainer.log_every, watch.every)
    is_read = any(every and (run.state.step + 1) % every == 0 for every in intervals)
    if is_read and run.accelerator.device.type == "cuda":
        torch.cuda.synchronize()


def _log(run: Training, watch: Watch, fraction: float, rates: dict[str, float]) -> None:
    window = run.window
    run.state.loss_sum += window.loss
    mfu = {"train/mfu": window.tally.flops / window.seconds / run.machine_flops}
    watch.log(fraction, window.metrics() | rates | mfu)
    run.window = Window(run.weights)


def accumulate_gradients(
    learner: nn.Module,
    accelerator: Accelerator,
    batches: list[Batch],
    weights: Mapping[str, float],
    totals: Mapping[str, int],
) -> dict[str, torch.Tensor]:
    """Add the gradients of one step to the parameters' and return its losses, on the device.

    Each objective's losses are divided by the number of its predictions in the whole
    step (``totals``), so every predicted token weighs the same, whichever batch and process it
    is in; the means are returned by objective, the gradients are those of their sum under
    ``weights``. A step without a prediction (its text is all unknown) has a loss of 0.
    """
    losses = {name: torch.zeros((), device=accelerator.device) for name in weights}
    for index, batch in enumerate(batches, start=1):
        # Gradients are exchanged once, with the last batch.
        alone = accelerator.no_sync(learner) if index < len(batches) else nullcontext()
        with alone:
            with accelerator.autocast():
                sums = learner(batch.to(accelerator.device))
            means = {name: total / max(totals[name], 1) for name, total in sums.items()}
            weighted = [weights[name] * mean for name, mean in means.items()]
            # What is exchanged is a mean over the processes; a sum is wanted.
            accelerator.backward(torch.stack(weighted).sum() * accelerator.num_processes)
        for name, mean in means.items():
            losses[name] += mean.detach()
    return accelerator.reduce(losses, "sum")


def measure_seconds_per_token(
    learner: nn.Module,
    accelerator: Accelerator,
    steps: Iterable[list[Batch]],
    weights: Mapping[str, float],
) -> float:
    """Return the seconds that forward and backward take for a token, padding not counted.

    Nothing is changed by it. The first step is repeated until it is hardly faster than before; of
    the others as many are measured as a second has room for, each once: their shapes are as new as
    those of most steps in training.
    """
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []

    def seconds(batches: list[Batch], tally: Tally) -> float:
        clock = time.perf_counter()
        losses = accumulate_gradients(learner, accelerator, batches, weights, tally.predictions)
        for loss in losses.values():
            loss.item()
        learner.zero_grad()
        return group.largest([time.perf_counter() - clock])[0]

    spent, tokens, elapsed = 0.0, 0, 0.0
    with torch.random.fork_rng(devices=devices):
        for number, batches in enumerate(steps):
            tally = Tally.of(batches, flops=0).over_all_processes()
            if number == 0:
                taken = [seconds(batches, tally) for _ in range(2)]
                if taken[1] < 0.8 * taken[0]:
                    taken.append(seconds(batches, tally))
                warm, elapsed = min(taken) / tally.tokens, sum(taken)
            else:
                spent += (took := seconds(batches, tally))
                tokens, elapsed = tokens + tally.tokens, elapsed + took
            if elapsed > MEASURED_SECONDS:
                break
    return spent / tokens if tokens else warm
