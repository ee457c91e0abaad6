"""bertexp's side of the benchmark: its own loop, and where the time of a step goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from bertexp.benchmark.config import BenchConfig
from bertexp.benchmark.work import Measured, longest, peak_memory, prepare_work, read_model
from bertexp.evaluation.answers import evaluate
from bertexp.models.compiled import compile_layers
from bertexp.models.objective import Objective, count_parameters, flops_per_batch
from bertexp.tasks.batch import Batch
from bertexp.tracking.trackers import JsonLinesTracker
from bertexp.training.bad_steps import BadSteps
from bertexp.training.budget import Budget
from bertexp.training.loop import Training, train
from bertexp.training.plan import BatchPlan, load_steps
from bertexp.training.setup import build_accelerator, build_optimizer
from bertexp.training.state import TrainState, Window
from bertexp.training.throughput import machine_flops

# How often it is looked at whether Trainer's loss is reached, in Trainer's steps.
LOOKS = 20


def measure(config: BenchConfig, folder: Path, steps: int, loss_steps: int) -> Measured:
    """Train as a run does, for ``steps`` or to a loss, and say what it took."""
    accelerator = build_accelerator(config.hardware, [])
    data = prepare_work(config)
    objective = Objective(read_model(data, folder)).to(accelerator.device)
    compiles = config.hardware.compile
    plan = BatchPlan(data.examples, config.trainer.batch_size, 1, config.seed, few_shapes=compiles)
    if compiles:
        compile_layers(objective, plan.shapes)
    first = plan[0][0].to(accelerator.device)
    first_loss = _loss(objective, first)
    total = longest(steps, loss_steps)
    optimizer = build_optimizer(config.optimizer, objective)
    prepared, optimizer = accelerator.prepare(objective, optimizer)
    ended: list[float] = []
    losses: list[tuple[int, float, float]] = []
    record = JsonLinesTracker(folder)

    def look(state: TrainState) -> None:
        metrics = evaluate(objective, data.bank, accelerator.device)
        losses.append((state.step, state.seconds, metrics["eval/loss"]))

    training = Training(
        objective=prepared,
        weights=data.task.weights,
        optimizer=optimizer,
        accelerator=accelerator,
        steps=load_steps(plan, 0, config.hardware.num_workers, accelerator.device),
        budget=Budget(total, None, None),
        trainer=config.trainer,
        scheduler=config.scheduler,
        evaluate_every=max(1, loss_steps // LOOKS) if loss_steps else None,
        on_log=lambda state, _, metrics: record.log(metrics, step=state.step),
        on_evaluate=look,
        on_step=lambda run: ended.append(run.state.seconds),
        machine_flops=machine_flops(accelerator),
        bad_steps=BadSteps(config.trainer.max_bad_steps),
        window=Window(data.task.weights),
    )
    train(training)
    warmup = config.bench.warmup
    batches = [plan[step][0] for step in range(warmup, total)]
    seconds = ended[-1] - ended[warmup - 1]
    peak = peak_memory()
    return Measured(
        parameters=count_parameters(objective.model),
        first_loss=first_loss,
        tokens=sum(batch.tokens for batch in batches),
        seconds=seconds,
        peak_bytes=peak,
        losses=losses,
        parts={} if loss_steps else _parts(training, plan, seconds / len(batches)),
        flops=sum(flops_per_batch(objective.model, batch) for batch in batches) / seconds,
        machine_flops=training.machine_flops,
    )


@torch.no_grad()
def _loss(objective: Objective, batch: Batch) -> float:
    objective.eval()
    ((name, total),) = objective(batch).items()
    objective.train()
    return float(total) / batch.predictions[name]


def _parts(run: Training, plan: BatchPlan, step_seconds: float) -> dict[str, float]:
    """Return the milliseconds of each part of a step, and of a bare loop around a fixed batch."""
    batch = plan[0][0].to(run.accelerator.device)
    model = run.accelerator.unwrap_model(run.objective)

    def forward() -> torch.Tensor:
        with run.accelerator.autocast():
            return torch.stack(list(model(batch).values())).sum()

    def step() -> None:
        run.optimizer.step()
        run.optimizer.zero_grad()

    def clip() -> None:
        run.accelerator.clip_grad_norm_(model.parameters(), 1.0)

    def bare() -> None:
        forward().backward()
        clip()
        step()

    forward().backward()
    parts = {
        "data": _milliseconds(lambda: plan[1], run.accelerator),
        "forward": _milliseconds(forward, run.accelerator),
        "forward and backward": _milliseconds(lambda: forward().backward(), run.accelerator),
        "clipping": _milliseconds(clip, run.accelerator),
        "bare loop": _milliseconds(bare, run.accelerator),
    }
    return parts | {"whole loop": step_seconds * 1e3}


def _milliseconds(job: Callable[[], object], accelerator: Accelerator, repeats: int = 7) -> float:
    found = []
    for _ in range(repeats):
        clock = time.perf_counter()
        job()
        if accelerator.device.type == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - clock)
    return float(np.median(found)) * 1e3
