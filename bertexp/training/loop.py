"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from torch import nn

from bertexp.objectives.batch import Batch
from bertexp.processes import group
from bertexp.training.bad_steps import BadSteps
from bertexp.training.budget import Budget, learning_rate_factor
from bertexp.training.config import SchedulerConfig, TrainerConfig
from bertexp.training.shards import whole
from bertexp.training.state import Tally, TrainState, Window

# Steps are measured for so long before training, to say how long it will take.
MEASURED_SECONDS = 1.0


def _nothing(*_: object) -> None:
    """Nobody watches."""


@dataclass
class Training:
    """Everything the loop works with.

    Attributes:
        objective: the prepared module whose forward gives summed losses, see ``Objective``.
        weights: what each objective's mean loss is multiplied with before they are added up.
        optimizer: its prepared optimizer.
        accelerator: device, precision and processes.
        steps: what this process has of each step's batches, without end.
        budget: when to stop.
        trainer: clipping and the logging interval.
        scheduler: the learning rate's course.
        machine_flops: floating-point operations a second of a matrix product, all processes
            together; ``train/mfu`` is the share of it that training reaches.
        bad_steps: skips steps whose numbers are not finite.
        window, state: what happened since the last logged line, and what was spent.
        evaluate_every: steps between evaluations, None for none.
        on_log: gets the state, the fraction of the budget and the metrics of a logged line.
        on_evaluate: called between steps when it is time to evaluate; it may stop the run.
        on_step: called after every step, at last; what it raises ends the training.
    """

    objective: nn.Module
    weights: Mapping[str, float]
    optimizer: torch.optim.Optimizer
    accelerator: Accelerator
    steps: Iterable[list[Batch]]
    budget: Budget
    trainer: TrainerConfig
    scheduler: SchedulerConfig
    machine_flops: float
    bad_steps: BadSteps
    window: Window
    state: TrainState = field(default_factory=TrainState)
    evaluate_every: int | None = None
    on_log: Callable[[TrainState, float, dict[str, float]], None] = _nothing
    on_evaluate: Callable[[TrainState], None] = _nothing
    on_step: Callable[[Training], None] = _nothing

    def wait_before_reading(self) -> None:
        """Wait for a GPU after a step whose numbers are read, so that its work counts as training.

        It is waited for in these steps anyway, but by then the clock would have stopped.
        """
        intervals = (self.trainer.log_every, self.evaluate_every)
        is_read = any(every and (self.state.step + 1) % every == 0 for every in intervals)
        if is_read and self.accelerator.device.type == "cuda":
            torch.cuda.synchronize()


def train(run: Training) -> TrainState:
    """Train until the budget is spent; returns what was spent.

    The loss of a step is a sum over the predictions of all its batches, divided by their
    number: how a step is cut into batches and dealt to processes does not change it.
    """
    state, learner = run.state, run.accelerator.unwrap_model(run.objective)
    peak = [parameters["lr"] for parameters in run.optimizer.param_groups]
    clip = run.trainer.gradient_clip or float("inf")
    steps = iter(run.steps)
    fraction = run.budget.fraction(state)
    if fraction >= 1 and run.window.seconds:
        # Resumed with nothing left to train: the steps since its last line are logged here.
        _log(run, fraction, {})
    while fraction < 1:
        clock = time.perf_counter()  # evaluating and saving are not training time
        batches = next(steps)
        factor = learning_rate_factor(run.scheduler, run.budget.midway(state))
        for parameters, rate in zip(run.optimizer.param_groups, peak, strict=True):
            parameters["lr"] = rate * factor
        flops = sum(learner.flops(batch) for batch in batches)
        tally = Tally.of(batches, flops).over_all_processes()
        losses = accumulate_gradients(
            run.objective, run.accelerator, batches, run.weights, tally.predictions
        )
        norm = whole(run.accelerator.clip_grad_norm_(run.objective.parameters(), clip))
        good = run.bad_steps.judge(run.optimizer, state, batches, norm, *losses.values())
        run.optimizer.step()
        run.optimizer.zero_grad()

        run.wait_before_reading()
        (elapsed,) = group.largest([time.perf_counter() - clock])
        run.window.add(losses, good, tally, elapsed)
        state.add(tally, elapsed)
        fraction = run.budget.fraction(state)
        if fraction < 1 and run.evaluate_every and state.step % run.evaluate_every == 0:
            run.on_evaluate(state)
            run.objective.train()
            fraction = run.budget.fraction(state)
        if state.step % run.trainer.log_every == 0 or fraction >= 1:
            rates = {"train/learning_rate": peak[0] * factor, "train/grad_norm": float(norm)}
            _log(run, fraction, rates)
        run.on_step(run)
    return state


def _log(run: Training, fraction: float, rates: dict[str, float]) -> None:
    """Log what happened since the last line, and begin another."""
    window = run.window
    run.state.loss_sum += window.loss
    mfu = {"train/mfu": window.flops / window.seconds / run.machine_flops}
    run.on_log(run.state, fraction, window.metrics() | rates | mfu)
    run.window = Window(run.weights)


def accumulate_gradients(
    objective: nn.Module,
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
        alone = accelerator.no_sync(objective) if index < len(batches) else nullcontext()
        with alone:
            with accelerator.autocast():
                sums = objective(batch.to(accelerator.device))
            means = {name: total / max(totals[name], 1) for name, total in sums.items()}
            weighted = [weights[name] * mean for name, mean in means.items()]
            # What is exchanged is a mean over the processes; a sum is wanted.
            accelerator.backward(torch.stack(weighted).sum() * accelerator.num_processes)
        for name, mean in means.items():
            losses[name] += mean.detach()
    return accelerator.reduce(losses, "sum")


def measure_seconds_per_token(
    objective: nn.Module,
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
        losses = accumulate_gradients(objective, accelerator, batches, weights, tally.predictions)
        for loss in losses.values():
            loss.item()
        objective.zero_grad()
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
