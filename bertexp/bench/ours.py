"""bertexp's side of the benchmark: its own loop."""

from __future__ import annotations

from pathlib import Path

import torch

from bertexp.bench.clock import Clock
from bertexp.bench.config import BenchConfig
from bertexp.bench.parts import measure_parts
from bertexp.bench.work import Measured, first_batch, longest, prepare_work, read_model
from bertexp.evaluation.bank import evaluate
from bertexp.objectives.batch import Batch
from bertexp.objectives.learner import Learner, count_parameters
from bertexp.tracking.trackers import JsonLinesTracker
from bertexp.training.budget import Budget
from bertexp.training.loop import Watch, prepare_training, train
from bertexp.training.machine import peak_memory
from bertexp.training.plan import load_steps
from bertexp.training.setup import build_accelerator

# How often it is looked at whether Trainer's loss is reached, in Trainer's steps.
LOOKS = 20


def measure(config: BenchConfig, folder: Path, steps: int, loss_steps: int) -> Measured:
    """Train as a run does, for ``steps`` or to a loss, and say what it took."""
    accelerator = build_accelerator(config.hardware, [])
    data = prepare_work(config)
    learner = Learner(read_model(data, folder), data.task.objectives).to(accelerator.device)
    first = first_batch(config, data).to(accelerator.device)
    # Before mixed precision, which comes with getting ready.
    first_loss = _loss(learner, first)
    training = prepare_training(config, data.examples, data.task.weights, learner, accelerator)
    total = longest(steps, loss_steps)
    clock = Clock(config.bench.warmup, total)
    losses: list[tuple[int, float, float]] = []
    record, state = JsonLinesTracker(folder), training.state

    class Measuring(Watch):
        every = max(1, loss_steps // LOOKS) if loss_steps else None

        def log(self, fraction: float, metrics: dict[str, float]) -> None:
            record.log(metrics, step=state.step)

        def evaluate(self) -> None:
            metrics = evaluate(learner, data.bank, accelerator.device)
            losses.append((state.step, state.seconds, metrics["eval/loss"]))

        def step(self) -> None:
            clock.tick(lambda: state.seconds)

    training.budget = Budget(total, None, None)
    workers = config.hardware.num_workers
    loader = load_steps(training.batches, 0, workers, accelerator.device)
    train(training, iter(loader), Measuring())
    warmup = config.bench.warmup
    batches = [training.batches[step][0] for step in range(warmup, total)]
    peak = peak_memory()
    parts, overhead = ({}, 0.0) if loss_steps else measure_parts(training, training.batches)
    return Measured(
        parameters=count_parameters(learner.model),
        first_loss=first_loss,
        tokens=sum(batch.tokens for batch in batches),
        seconds=clock.seconds,
        peak_bytes=peak,
        losses=losses,
        parts=parts,
        overhead=overhead,
        flops=sum(learner.flops(batch) for batch in batches) / clock.seconds,
        batch_flops=learner.flops(first),
        machine_flops=training.machine_flops,
    )


@torch.no_grad()
def _loss(learner: Learner, batch: Batch) -> float:
    learner.eval()
    ((name, total),) = learner(batch).items()
    learner.train()
    return float(total) / batch.predictions[name]
