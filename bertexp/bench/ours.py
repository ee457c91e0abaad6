"""bertexp's side of the benchmark: its own loop, and the time of each part of a step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertexp.bench.config import BenchConfig
from bertexp.bench.stopwatch import Span, Stopwatch, milliseconds, wait_for_device
from bertexp.bench.work import Measured, device_name, first_batch, prepare_work, read_model
from bertexp.evaluation.bank import evaluate
from bertexp.experiment.prepare import Data
from bertexp.objectives.batch import Batch
from bertexp.objectives.learner import Learner, count_parameters
from bertexp.tracking.trackers import JsonLinesTracker
from bertexp.training.budget import Budget
from bertexp.training.loading import load_steps
from bertexp.training.loop import Callbacks, Phase, Training, train
from bertexp.training.machine import peak_memory
from bertexp.training.prepare import prepare_training
from bertexp.training.setup import build_accelerator

# How often bertexp is evaluated in as many steps as Trainer trains.
LOOKS = 20
# The budget of a run that the clock ends: long enough for all that pays only in long runs.
ENDLESS = 10**6
# How often each part of a step is timed, and the number of steps of the whole loop.
REPEATS, STEPS = 7, 20


class _Measuring(Callbacks):
    def __init__(
        self, training: Training, data: Data, stopwatch: Stopwatch, folder: Path, every: int | None
    ) -> None:
        self.every = every
        self.losses: list[tuple[int, float, float]] = []
        self._training, self._bank, self._stopwatch = training, data.bank, stopwatch
        self._record = JsonLinesTracker(folder)

    def log(self, fraction: float, metrics: dict[str, float]) -> None:
        self._record.log(metrics, step=self._training.state.step)

    def evaluate(self) -> None:
        state, accelerator = self._training.state, self._training.accelerator
        learner = accelerator.unwrap_model(self._training.learner)
        metrics = evaluate(learner, self._bank, accelerator.device)
        self.losses.append((state.step, state.seconds, metrics["eval/loss"]))

    def step(self) -> None:
        self._stopwatch.tick(self._training.state.tokens)
        if self._stopwatch.is_over:
            self._training.state.stopped = True


def measure_bertexp(config: BenchConfig, folder: Path, span: Span) -> Measured:
    total = ENDLESS if span.seconds else span.longest
    trainer = replace(config.trainer, epochs=None, max_steps=total, max_tokens=None, max_time=None)
    config = replace(config, trainer=trainer)
    accelerator = build_accelerator(config.hardware, [])
    data = prepare_work(config)
    learner = Learner(read_model(data, folder), data.task.objectives).to(accelerator.device)
    first = first_batch(config, data).to(accelerator.device)
    # Before ``prepare_training``, which turns on mixed precision.
    first_loss = _loss(learner, first)
    task = data.task
    phase = Phase(config, task.objectives, task.weights, data.examples)
    (training,) = prepare_training([phase], learner, accelerator)
    every = max(1, span.loss_steps // LOOKS) if span.loss_steps else None
    stopwatch = span.stopwatch(config.bench.warmup, total)
    measuring = _Measuring(training, data, stopwatch, folder, every)
    plan, workers = training.batches, config.hardware.num_workers
    train(training, load_steps(plan, 0, workers, accelerator.device), measuring)
    peak, state = peak_memory(), training.state
    state.stopped = False
    # A step that is replayed has no parts.
    is_whole = bool(span.loss_steps) or accelerator.device.type == "cuda"
    parts, overhead = ({}, 0.0) if is_whole else _measure_parts(training)
    return Measured(
        parameters=count_parameters(learner.model),
        first_loss=first_loss,
        tokens=stopwatch.tokens,
        seconds=stopwatch.seconds,
        peak_bytes=peak,
        losses=measuring.losses,
        parts=parts,
        overhead=overhead,
        flops=state.flops / state.tokens * stopwatch.tokens / stopwatch.seconds,
        batch_flops=learner.flops(first),
        machine_flops=training.machine_flops,
        speeds=stopwatch.speeds,
        warmup_seconds=stopwatch.warmup_seconds,
        device=device_name(),
    )


@torch.no_grad()
def _loss(learner: Learner, batch: Batch) -> float:
    learner.eval()
    ((name, total),) = learner(batch).items()
    learner.train()
    return float(total) / batch.predictions[name]


def _measure_parts(run: Training) -> tuple[dict[str, float], float]:
    """Return the milliseconds of each part of a step on the first batch, and the loop's overhead.

    The overhead is relative to a bare loop, whose batches are ready on the device, which draws no
    masks, counts and logs nothing and does not use Accelerate. The model is trained further.
    """
    model = run.accelerator.unwrap_model(run.learner)
    optimizer: torch.optim.Optimizer = getattr(run.optimizer, "optimizer", run.optimizer)

    def forward(batch: Batch) -> torch.Tensor:
        with run.accelerator.autocast():
            return torch.stack(list(model(batch).values())).sum()

    def clip() -> None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)

    def bare(batch: Batch) -> None:
        forward(batch).backward()
        clip()
        optimizer.step()
        optimizer.zero_grad()

    first = run.batches[0][0].to(run.accelerator.device)
    jobs: dict[str, Callable[[], Any]] = {
        "data": lambda: run.batches[1],
        "forward": lambda: forward(first),
        "forward and backward": lambda: forward(first).backward(),
        "clipping": clip,
    }
    parts = {
        name: float(np.median([milliseconds(job) for _ in range(REPEATS)]))
        for name, job in jobs.items()
    }
    optimizer.zero_grad()
    whole, alone = _loops(run, bare)
    parts |= {"bare loop": float(np.median(alone)), "whole loop": float(np.median(whole))}
    # The machine's speed drifts by more than the difference, so pairs of steps are compared.
    return parts, float(np.median(whole / alone - 1))


def _loops(run: Training, bare: Callable[[Batch], None]) -> tuple[np.ndarray, np.ndarray]:
    """Return the milliseconds of steps of the loop, and of ``bare`` on the same batches."""
    device, begun = run.accelerator.device, run.state.step
    whole, alone = list[float](), list[float]()

    class Comparing(Callbacks):
        began = math.nan

        def step(self) -> None:
            wait_for_device()
            whole.append((time.perf_counter() - self.began) * 1e3)
            batch = run.batches[run.state.step - 1][0].to(device)
            alone.append(milliseconds(lambda: bare(batch)))
            self.began = time.perf_counter()

    run.budget = Budget(begun + 1 + STEPS, None, None)
    train(run, load_steps(run.batches, begun, 0, device), Comparing())
    # The start of the first step is unknown.
    return np.array(whole[1:]), np.array(alone[1:])
