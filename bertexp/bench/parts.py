"""Where the time of a step goes, and what the loop adds to it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from bertexp.bench.clock import wait_for_device
from bertexp.objectives.batch import Batch
from bertexp.training.budget import Budget
from bertexp.training.loop import Training, Watch, train
from bertexp.training.plan import BatchPlan, load_steps

# How often each part is timed, and how many steps the whole loop makes beside the bare one.
REPEATS, STEPS = 7, 20


def measure_parts(run: Training, plan: BatchPlan) -> tuple[dict[str, float], float]:
    """Return the milliseconds of each part of a step on the first batch, and of both loops.

    Beside them: the share that the loop adds to a bare one.

    Args:
        run: one that has trained; it goes on training.
        plan: its batches.
    """
    device = run.accelerator.device
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

    batch = plan[0][0].to(device)
    jobs: dict[str, Callable[[], Any]] = {
        "data": lambda: plan[1],
        "forward": lambda: forward(batch),
        "forward and backward": lambda: forward(batch).backward(),
        "clipping": clip,
    }
    parts = {
        name: float(np.median([_milliseconds(job) for _ in range(REPEATS)]))
        for name, job in jobs.items()
    }
    optimizer.zero_grad()
    whole_ms, bare_ms = _loops(run, plan, bare)
    loops = {"bare loop": float(np.median(bare_ms)), "whole loop": float(np.median(whole_ms))}
    # A machine's speed drifts by more than what is looked for: each pair is compared.
    return parts | loops, float(np.median(whole_ms / bare_ms - 1))


def _loops(
    run: Training, plan: BatchPlan, bare: Callable[[Batch], None]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the milliseconds of steps of the loop, and of ``bare`` on the same batches, in turn.

    The bare loop finds its batch made and moved; it draws no masks, counts and logs nothing and
    knows no Accelerate.
    """
    device, first = run.accelerator.device, run.state.step
    whole, alone = list[float](), list[float]()

    class Comparing(Watch):
        clock = math.nan

        def step(self) -> None:
            whole.append(_milliseconds_since(self.clock))
            batch = plan[run.state.step - 1][0].to(device)
            alone.append(_milliseconds(lambda: bare(batch)))
            self.clock = time.perf_counter()

    run.budget = Budget(first + 1 + STEPS, None, None)
    train(run, iter(load_steps(plan, first, 0, device)), Comparing())
    # Nobody knows when the first one began.
    return np.array(whole[1:]), np.array(alone[1:])


def _milliseconds(job: Callable[[], object]) -> float:
    clock = time.perf_counter()
    job()
    return _milliseconds_since(clock)


def _milliseconds_since(clock: float) -> float:
    wait_for_device()
    return (time.perf_counter() - clock) * 1e3
