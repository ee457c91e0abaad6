"""``trainer.dry_run``: the cost of a run, from a few real steps and an evaluation."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import torch
from rich.console import Group, RenderableType
from rich.text import Text

from bertexp import group
from bertexp.console import clock, compact, listed, plural, show, size, table
from bertexp.experiment.run import Run
from bertexp.experiment.summary import PLANNED, WEIGHT_BYTES, Part, Plan, write_summary
from bertexp.objectives.batch import Batch
from bertexp.objectives.learner import Learner, count_parameters
from bertexp.training.budget import Budget
from bertexp.training.loop import Callbacks, Training, train
from bertexp.training.machine import forget_peak, peak_memory, total_memory
from bertexp.training.plan import BatchPlan, Request
from bertexp.training.prepare import outlook
from bertexp.training.state import TrainState

# Operations are counted under this seed in so many steps, so that all seeds cost the same.
SEED, SAMPLED = 0, 16
# The number of real steps that are measured.
MEASURED = 3
# For each parameter in a checkpoint: its weight and AdamW's two moments.
TRAINED_BYTES = 3 * WEIGHT_BYTES
NOTE = Text("A dry run: nothing is trained, logged or saved.", "dim")


def make_plan(run: Run) -> Plan:
    """Train ``MEASURED`` real steps and evaluate, to estimate the cost of the whole run.

    The model is of no use afterwards. All processes take part; the first one records the plan in
    the run's ``summary.json``.
    """
    forget_peak()
    measured = [measure_steps(run.learner, training) for training in run.trainings]
    evaluation = _evaluation_seconds(run)
    # A limit on time counts whole steps, not only forward and backward.
    ends = outlook([training for training, _ in measured])
    parts = [
        _part(training, end - first)
        for (training, _), (first, end) in zip(measured, pairwise([0, *ends]), strict=True)
    ]
    seconds = [part.steps * part.step_seconds for part in parts]
    steps, trainer = ends[-1], run.config.trainer
    parameters = count_parameters(run.learner)
    plan = Plan(
        parameters=parameters,
        steps=steps,
        epochs=sum(part.epochs for part in parts),
        tokens=sum(part.tokens for part in parts),
        flops=sum(part.flops for part in parts),
        step_seconds=sum(seconds) / steps,
        # Before the first step, at intervals, and at the end.
        evaluation_seconds=evaluation * (2 + ((steps - 1) // run.every if run.every else 0)),
        peak_bytes=group.largest([peak_memory()])[0],
        checkpoint_bytes=TRAINED_BYTES * parameters,
        checkpoints=_checkpoints(run, steps, sum(seconds)),
        processes=group.size(),
        step_examples=trainer.batch_size * trainer.gradient_accumulation_steps,
        sharded=run.config.hardware.sharded,
        utilisation=np.average([speed for _, speed in measured], weights=seconds).item(),
        phases=[asdict(part) for part in parts],
    )
    if group.is_first():
        write_summary(run.invocation.folder, {"status": PLANNED, PLANNED: asdict(plan)})
    return plan


def _evaluation_seconds(run: Run) -> float:
    run.learner.use(run.prepared.heads)
    began = time.perf_counter()
    run.experiment.evaluate(run.learner, run.accelerator.device)
    return time.perf_counter() - began


def measure_steps(learner: Learner, training: Training) -> tuple[Training, float]:
    """Train the first steps of a phase, which create the optimizer's states, and those to measure.

    Steps that are recorded are trained three times: as usual, recorded, and replayed. Each is
    waited for, as logged ones are. Returns the phase with the seconds of a mean step, and the speed
    relative to the machine's matrix product.
    """
    learner.use(training.phase.heads)
    spent: list[TrainState] = []

    class Count(Callbacks):
        def step(self) -> None:
            spent.append(replace(trial.state))

    config, device = training.config, training.accelerator.device
    waiting = replace(config, trainer=replace(config.trainer, log_every=1))
    batches = [[batch.to(device) for batch in step] for step in _batches(training)]
    batches *= 3 if training.recorded else 1
    trial = replace(
        training,
        phase=replace(training.phase, config=waiting),
        budget=Budget(steps=len(batches), tokens=None, seconds=None),
        state=TrainState(),
    )
    train(trial, iter(batches), Count())
    first, last = spent[-1 - MEASURED], spent[-1]
    seconds = last.seconds - first.seconds
    utilisation = (last.flops - first.flops) / seconds / training.machine_flops
    step_seconds = seconds / (last.tokens - first.tokens) * training.tokens_per_step
    return replace(training, pace=lambda: step_seconds), utilisation


def _part(training: Training, steps: int) -> Part:
    tokens = steps * training.tokens_per_step
    return Part(
        steps=steps,
        epochs=steps / training.batches.steps_per_epoch,
        tokens=tokens,
        flops=tokens * _flops_per_token(training),
        step_seconds=training.pace(),
    )


def _flops_per_token(training: Training) -> float:
    """Return the operations of training a token, the same for any seed.

    It is the mean over steps from a whole epoch, drawn and masked under a fixed seed.
    """
    phase = training.phase
    examples = phase.examples.remasked(lambda masker: masker.under(SEED))
    plan = BatchPlan.of(examples, phase.config, SEED)
    learner = training.accelerator.unwrap_model(training.learner)
    learner.use(phase.heads)
    flops, tokens = 0.0, 0
    for place, number in enumerate(plan.spread(SAMPLED)):
        batches = plan[Request(number, phase.masked((place + 0.5) / SAMPLED))]
        flops += sum(learner.flops(batch) for batch in batches)
        tokens += sum(batch.tokens for batch in batches)
    return flops / tokens


def _batches(training: Training) -> Iterator[list[Batch]]:
    """Yield the first steps, with masks from the whole phase: a schedule changes the work."""
    for number in range(1 + MEASURED):
        progress = max(0.0, (number - 0.5) / MEASURED)
        yield training.batches[Request(number, training.phase.masked(progress))]


def _checkpoints(run: Run, steps: int, seconds: float) -> int:
    """Return the most checkpoints on disk at a time, including the one being written."""
    trainer = run.config.trainer
    written = len(run.trainings) + (steps // run.every if run.every else 0)
    if isinstance(trainer.save_every, int):
        written += steps // trainer.save_every
    elif trainer.save_minutes:
        written += int(seconds / 60 / trainer.save_minutes)
    kept = trainer.keep_checkpoints + bool(run.every)
    return min(written, kept + 1)


def show_plan(run: Run) -> float:
    """Print the plan of a run, see ``make_plan``; returns NaN, as there is no loss.

    A sweep prints the plans of all its jobs at its end.
    """
    plan = make_plan(run)
    if group.is_first() and run.invocation.job is None:
        run.print_plan([part["steps"] for part in plan.phases], plan.steps * plan.step_seconds)
        show(costs(plan))
    return math.nan


def costs(plan: Plan) -> RenderableType:
    rows = {
        "training": f"{compact(plan.tokens)} tokens, {plan.epochs:.3g} epochs",
        "compute": f"{plan.flops:.2e} floating-point operations, at {plan.utilisation:.0%} of "
        "this machine's matrix product",
        "memory": f"{size(plan.peak_bytes)} at most in a process; "
        f"{'a GPU' if torch.cuda.is_initialized() else 'the machine'} has {size(total_memory())}",
        "disk": f"{size(plan.disk_bytes)}: {plural(plan.checkpoints, 'checkpoint')} of "
        f"{size(plan.checkpoint_bytes)}, the model {size(plan.model_bytes)}; "
        f"{size(shutil.disk_usage('.').free)} are free",
        "in all": f"{clock(plan.seconds)}: {plan.steps:,} steps of "
        f"{1e3 * plan.step_seconds:,.0f} ms ({MEASURED} measured), evaluations "
        f"{clock(plan.evaluation_seconds)}",
    }
    if plan.processes > 1:
        rows["processes"] = _processes(plan)
    if len(plan.phases) > 1:
        rows |= {f"phase {n}": _of_phase(Part(**part)) for n, part in enumerate(plan.phases, 1)}
    return Group(listed(rows), "", NOTE)


def _of_phase(part: Part) -> str:
    return (
        f"{clock(part.steps * part.step_seconds)}: {part.steps:,} steps of "
        f"{1e3 * part.step_seconds:,.0f} ms, {compact(part.tokens)} tokens, {part.flops:.2e} "
        "floating-point operations"
    )


def sweep_costs(plans: Sequence[tuple[str, Plan]], at_once: int) -> RenderableType:
    """Return the cost of each job of a sweep and of all, ``at_once`` jobs at a time."""
    shown = table("job", "params", "steps", "tokens", "FLOPs", "memory", "disk", "time")
    for job, plan in plans:
        spent = (plan.steps, plan.tokens, plan.flops, plan.peak_bytes, plan.disk_bytes)
        shown.add_row(Text(job), compact(plan.parameters), *_cells(*spent, plan.seconds))
    each = [plan for _, plan in plans]
    memory = sum(sorted(plan.peak_bytes * plan.processes for plan in each)[-at_once:])
    label = plural(len(each), "job") + (f", {at_once} at once" if at_once > 1 else "")
    shown.add_section()
    shown.add_row(
        label,
        "",
        *_cells(
            sum(plan.steps for plan in each),
            sum(plan.tokens for plan in each),
            sum(plan.flops for plan in each),
            memory,
            sum(plan.disk_bytes for plan in each),
            sum(plan.seconds for plan in each) / at_once,
        ),
        style="bold",
    )
    return Group("", shown, "", NOTE)


def _cells(
    steps: int, tokens: float, flops: float, memory: float, disk: float, seconds: float
) -> list[str]:
    counts = map(compact, (steps, tokens, flops))
    return [*counts, f"{compact(memory)}B", f"{compact(disk)}B", clock(seconds)]


def _processes(plan: Plan) -> str:
    parts = [
        f"{plan.processes}, each with {plan.step_examples / plan.processes:g} of a step's "
        f"{plan.step_examples} examples",
        f"{size(plan.model_bytes)} of gradients are exchanged in a step",
    ]
    if plan.sharded:
        parts.append(f"each keeps 1/{plan.processes} of the weights and optimizer states")
    return "; ".join(parts) + "; batches, their order and masks stay the same"
