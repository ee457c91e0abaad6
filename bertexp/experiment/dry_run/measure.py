"""Plans a run: a few real steps, and the rest by arithmetic."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from bertexp import group
from bertexp.experiment.dry_run.plan import MEASURED, PLANNED, TRAINED_BYTES, Plan
from bertexp.experiment.summary import write_summary
from bertexp.objectives.learner import count_parameters
from bertexp.training.budget import Budget
from bertexp.training.loop import Watch, train
from bertexp.training.memory import forget_peak, peak_memory
from bertexp.training.plan import BatchPlan
from bertexp.training.state import TrainState

if TYPE_CHECKING:
    from bertexp.experiment.run import Run
    from bertexp.objectives.batch import Batch
    from bertexp.training.loop import Training


# What the plans of all seeds are counted under, and in how many steps.
SEED, SAMPLED = 0, 16


@dataclass(frozen=True)
class _Steps:
    """What the measured steps took, and the machine's limit.

    Attributes:
        seconds: for a token, padding not counted.
        utilisation: share of the machine's own matrix product that they reached.
    """

    seconds: float
    utilisation: float


def make_plan(run: Run) -> Plan:
    """Make ``MEASURED`` real steps and an evaluation, and say what all of the run would take.

    The model is trained by the steps and of no use afterwards. All processes take part; the
    first one records the plan in the run's ``summary.json``.
    """
    ready, trainer = run.training, run.config.trainer
    forget_peak()
    measured = _make_steps(run, ready)
    step_seconds = measured.seconds * ready.tokens_per_step
    clock = time.perf_counter()
    run.experiment.evaluate(run.learner, run.accelerator.device)
    evaluation = time.perf_counter() - clock
    # Where time is limited, whole steps count, not forward and backward alone.
    steps = ready.budget.expected_steps(ready.state, ready.tokens_per_step, step_seconds)
    tokens = steps * ready.tokens_per_step
    parameters = count_parameters(run.learner)
    plan = Plan(
        parameters=parameters,
        steps=steps,
        epochs=steps / ready.batches.steps_per_epoch,
        tokens=tokens,
        flops=tokens * _flops_per_token(run),
        step_seconds=step_seconds,
        # Before the first step, every so many, and at the end.
        evaluation_seconds=evaluation * (2 + ((steps - 1) // run.every if run.every else 0)),
        peak_bytes=group.largest([peak_memory()])[0],
        checkpoint_bytes=TRAINED_BYTES * parameters,
        checkpoints=_checkpoints(run, steps, steps * step_seconds),
        processes=group.size(),
        step_examples=trainer.batch_size * trainer.gradient_accumulation_steps,
        sharded=run.config.hardware.sharded,
        utilisation=measured.utilisation,
    )
    if group.is_first():
        write_summary(run.invocation.folder, {"status": PLANNED, PLANNED: asdict(plan)})
    return plan


def _make_steps(run: Run, ready: Training) -> _Steps:
    """Train for the steps that are measured, and one before: it makes the optimizer's states."""
    spent: list[TrainState] = []

    class Count(Watch):
        def step(self) -> None:
            spent.append(replace(measured.state))

    measured = replace(ready, budget=Budget(steps=1 + MEASURED, tokens=None, seconds=None))
    train(measured, _batches(run, ready), Count())
    first, last = spent[0], spent[-1]
    seconds = last.seconds - first.seconds
    return _Steps(
        seconds=seconds / (last.tokens - first.tokens),
        utilisation=(last.flops - first.flops) / seconds / ready.machine_flops,
    )


def _flops_per_token(run: Run) -> float:
    """Return the operations that training takes for a token, for any seed the same.

    It is the mean over steps that are spread over an epoch, drawn and masked under one seed.
    """
    trainer = run.config.trainer
    plan = BatchPlan(
        run.prepared.examples.under(SEED),
        trainer.batch_size,
        trainer.gradient_accumulation_steps,
        SEED,
        few_shapes=run.config.hardware.compile,
    )
    learner = run.learner
    flops, tokens = 0.0, 0
    for place, number in enumerate(plan.spread(SAMPLED)):
        rate = (
            run.experiment.mask_rate((place + 0.5) / SAMPLED) if run.experiment.mask_rate else None
        )
        batches = plan[number if rate is None else (number, rate)]
        flops += sum(learner.flops(batch) for batch in batches)
        tokens += sum(batch.tokens for batch in batches)
    return flops / tokens


def _batches(run: Run, ready: Training) -> Iterator[list[Batch]]:
    """Give the first steps, with the mask rates of all of the run: a schedule changes the work."""
    for number in range(1 + MEASURED):
        progress = max(0.0, (number - 0.5) / MEASURED)
        yield ready.batches[
            (number, run.experiment.mask_rate(progress)) if run.experiment.mask_rate else number
        ]


def _checkpoints(run: Run, steps: int, seconds: float) -> int:
    """Return how many checkpoints lie on the disk at most, the one being written included."""
    trainer = run.config.trainer
    written = 1 + (steps // run.every if run.every else 0)
    if isinstance(trainer.save_every, int):
        written += steps // trainer.save_every
    elif trainer.save_minutes:
        written += int(seconds / 60 / trainer.save_minutes)
    kept = trainer.keep_checkpoints + bool(run.every)
    return min(written, kept + 1)
