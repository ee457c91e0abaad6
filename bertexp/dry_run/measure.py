"""Plans a run: a few real steps, and the rest by arithmetic."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from bertexp.dry_run.plan import MEASURED, PLANNED, TRAINED_BYTES, Plan
from bertexp.models.objective import count_parameters
from bertexp.processes import group
from bertexp.runs.summary import write_summary
from bertexp.training.budget import Budget
from bertexp.training.loop import train
from bertexp.training.memory import forget_peak, peak_memory

if TYPE_CHECKING:
    from bertexp.tasks.batch import Batch
    from bertexp.training.ready import Ready
    from bertexp.training_run import TrainingRun


@dataclass(frozen=True)
class _Steps:
    """What a step took, and the machine's limit.

    Attributes:
        seconds, flops: of a step, the mean of those that were measured.
        machine_flops: floating-point operations a second of a matrix product.
    """

    seconds: float
    flops: float
    machine_flops: float


def make_plan(run: TrainingRun) -> Plan:
    """Make ``MEASURED`` real steps and an evaluation, and say what all of the run would take.

    The model is trained by the steps and of no use afterwards. All processes take part; the
    first one records the plan in the run's ``summary.json``.
    """
    ready, trainer = run.get_ready(), run.config.trainer
    forget_peak()
    step = _make_steps(run, ready)
    clock = time.perf_counter()
    run.evaluate()
    evaluation = time.perf_counter() - clock
    # Where time is limited, whole steps count, not forward and backward alone.
    steps = ready.budget.expected_steps(ready.tokens_per_step, step.seconds)
    parameters = count_parameters(run.objective)
    plan = Plan(
        parameters=parameters,
        steps=steps,
        epochs=steps / ready.batches.steps_per_epoch,
        tokens=steps * ready.tokens_per_step,
        flops=steps * step.flops,
        step_seconds=step.seconds,
        evaluation_seconds=evaluation * (1 + ((steps - 1) // run.every if run.every else 0)),
        peak_bytes=group.largest([peak_memory()])[0],
        checkpoint_bytes=TRAINED_BYTES * parameters,
        checkpoints=_checkpoints(run, steps, steps * step.seconds),
        processes=group.size(),
        step_examples=trainer.batch_size * trainer.gradient_accumulation_steps,
        sharded=run.config.hardware.sharded,
        utilisation=step.flops / step.seconds / step.machine_flops,
    )
    if group.is_first():
        write_summary(run.invocation.folder, {"status": PLANNED, PLANNED: asdict(plan)})
    return plan


def _make_steps(run: TrainingRun, ready: Ready) -> _Steps:
    """Train for the steps that are measured, and one before: it makes the optimizer's states."""
    spent: list[tuple[float, float]] = []
    training = replace(
        ready.training(_batches(run, ready)),
        budget=Budget(steps=1 + MEASURED, tokens=None, seconds=None),
        on_step=lambda training: spent.append((training.state.seconds, training.state.flops)),
    )
    train(training)
    seconds, flops = (
        (last - first) / MEASURED for first, last in zip(spent[0], spent[-1], strict=True)
    )
    return _Steps(seconds, flops, training.machine_flops)


def _batches(run: TrainingRun, ready: Ready) -> Iterator[list[Batch]]:
    """Give the first steps, with the mask rates of all of the run: a schedule changes the work."""
    for number in range(1 + MEASURED):
        progress = max(0.0, (number - 0.5) / MEASURED)
        yield ready.batches[(number, run.mask_rate(progress)) if run.mask_rate else number]


def _checkpoints(run: TrainingRun, steps: int, seconds: float) -> int:
    """Return how many checkpoints lie on the disk at most, the one being written included."""
    trainer = run.config.trainer
    written = 1 + (steps // run.every if run.every else 0)
    if isinstance(trainer.save_every, int):
        written += steps // trainer.save_every
    elif trainer.save_minutes:
        written += int(seconds / 60 / trainer.save_minutes)
    kept = trainer.keep_checkpoints + bool(run.every)
    return min(written, kept + 1)
