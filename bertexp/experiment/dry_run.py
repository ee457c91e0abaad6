"""``trainer.dry_run``: the cost of a run, from a few real steps and an evaluation."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

import torch
from rich.console import Group, RenderableType
from rich.text import Text

from bertexp import group
from bertexp.console import clock, compact, listed, plural, show, size, table
from bertexp.experiment.plan import MEASURED, PLANNED, TRAINED_BYTES, Plan
from bertexp.experiment.run import Run
from bertexp.experiment.summary import write_summary
from bertexp.objectives.batch import Batch
from bertexp.objectives.learner import count_parameters
from bertexp.training.budget import Budget
from bertexp.training.loop import Watch, train
from bertexp.training.machine import forget_peak, peak_memory, total_memory
from bertexp.training.plan import BatchPlan
from bertexp.training.state import TrainState

# Operations are counted under this seed in so many steps, so that all seeds cost the same.
SEED, SAMPLED = 0, 16


def make_plan(run: Run) -> Plan:
    """Train ``MEASURED`` real steps and evaluate, to estimate the cost of the whole run.

    The model is of no use afterwards. All processes take part; the first one records the plan in
    the run's ``summary.json``.
    """
    ready, trainer = run.training, run.config.trainer
    forget_peak()
    seconds_per_token, utilisation = _make_steps(run)
    step_seconds = seconds_per_token * ready.tokens_per_step
    began = time.perf_counter()
    run.experiment.evaluate(run.learner, run.accelerator.device)
    evaluation = time.perf_counter() - began
    # A limit on time counts whole steps, not only forward and backward.
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
        # Before the first step, at intervals, and at the end.
        evaluation_seconds=evaluation * (2 + ((steps - 1) // run.every if run.every else 0)),
        peak_bytes=group.largest([peak_memory()])[0],
        checkpoint_bytes=TRAINED_BYTES * parameters,
        checkpoints=_checkpoints(run, steps, steps * step_seconds),
        processes=group.size(),
        step_examples=trainer.batch_size * trainer.gradient_accumulation_steps,
        sharded=run.config.hardware.sharded,
        utilisation=utilisation,
    )
    if group.is_first():
        write_summary(run.invocation.folder, {"status": PLANNED, PLANNED: asdict(plan)})
    return plan


def _make_steps(run: Run) -> tuple[float, float]:
    """Train one step, which creates the optimizer's states, and those that are measured.

    Returns the seconds a token, without padding, and the speed relative to the machine's matrix
    product.
    """
    spent: list[TrainState] = []

    class Count(Watch):
        def step(self) -> None:
            spent.append(replace(training.state))

    budget = Budget(steps=1 + MEASURED, tokens=None, seconds=None)
    training = replace(run.training, budget=budget)
    train(training, _batches(run), Count())
    first, last = spent[0], spent[-1]
    seconds = last.seconds - first.seconds
    utilisation = (last.flops - first.flops) / seconds / training.machine_flops
    return seconds / (last.tokens - first.tokens), utilisation


def _flops_per_token(run: Run) -> float:
    """Return the operations of training a token, the same for any seed.

    It is the mean over steps from a whole epoch, drawn and masked under a fixed seed.
    """
    plan = BatchPlan.of(run.prepared.examples.under(SEED), run.config, SEED)
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


def _batches(run: Run) -> Iterator[list[Batch]]:
    """Yield the first steps, with mask rates from the whole run: a schedule changes the work."""
    for number in range(1 + MEASURED):
        progress = max(0.0, (number - 0.5) / MEASURED)
        yield run.training.batches[
            (number, run.experiment.mask_rate(progress)) if run.experiment.mask_rate else number
        ]


def _checkpoints(run: Run, steps: int, seconds: float) -> int:
    """Return the most checkpoints on disk at a time, including the one being written."""
    trainer = run.config.trainer
    written = 1 + (steps // run.every if run.every else 0)
    if isinstance(trainer.save_every, int):
        written += steps // trainer.save_every
    elif trainer.save_minutes:
        written += int(seconds / 60 / trainer.save_minutes)
    kept = trainer.keep_checkpoints + bool(run.every)
    return min(written, kept + 1)


NOTE = Text("A dry run: nothing is trained, logged or saved.", "dim")


def show_plan(run: Run) -> float:
    """Print the plan of a run, see ``make_plan``; returns NaN, as there is no loss.

    A sweep prints the plans of all its jobs at its end.
    """
    plan = make_plan(run)
    if group.is_first() and run.invocation.job is None:
        run.print_plan(plan.steps, plan.steps * plan.step_seconds)
        show(costs(plan))
    return math.nan


def costs(plan: Plan) -> RenderableType:
    free = shutil.disk_usage(".").free
    rows = {
        "training": f"{compact(plan.tokens)} tokens, {plan.epochs:.3g} epochs",
        "compute": f"{plan.flops:.2e} floating-point operations, at {plan.utilisation:.0%} of "
        "this machine's matrix product",
        "memory": f"{size(plan.peak_bytes)} at most in a process; "
        f"{'a GPU' if torch.cuda.is_initialized() else 'the machine'} has {size(total_memory())}",
        "disk": f"{size(plan.disk_bytes)}: {plural(plan.checkpoints, 'checkpoint')} of "
        f"{size(plan.checkpoint_bytes)}, the model {size(plan.model_bytes)}; "
        f"{size(free)} are free",
        "in all": f"{clock(plan.seconds)}: {plan.steps:,} steps of "
        f"{1e3 * plan.step_seconds:,.0f} ms ({MEASURED} measured), evaluations "
        f"{clock(plan.evaluation_seconds)}",
    }
    if plan.processes > 1:
        rows["processes"] = _processes(plan)
    return Group(listed(rows), "", NOTE)


def sweep_costs(plans: Sequence[tuple[str, Plan]], at_once: int) -> RenderableType:
    """Return the cost of each job of a sweep and of all, ``at_once`` jobs at a time."""
    columns = ("job", "params", "steps", "tokens", "FLOPs", "memory", "disk", "time")
    shown = table(*columns)
    for job, plan in plans:
        shown.add_row(
            Text(job),
            compact(plan.parameters),
            compact(plan.steps),
            *_spent(plan.tokens, plan.flops, plan.peak_bytes, plan.disk_bytes, plan.seconds),
        )
    each = [plan for _, plan in plans]
    memory = sum(sorted(plan.peak_bytes * plan.processes for plan in each)[-at_once:])
    label = plural(len(each), "job") + (f", {at_once} at once" if at_once > 1 else "")
    shown.add_section()
    shown.add_row(
        label,
        "",
        compact(sum(plan.steps for plan in each)),
        *_spent(
            sum(plan.tokens for plan in each),
            sum(plan.flops for plan in each),
            memory,
            sum(plan.disk_bytes for plan in each),
            sum(plan.seconds for plan in each) / at_once,
        ),
        style="bold",
    )
    return Group("", shown, "", NOTE)


def _spent(tokens: float, flops: float, memory: float, disk: float, seconds: float) -> list[str]:
    spent = [compact(tokens), compact(flops), f"{compact(memory)}B", f"{compact(disk)}B"]
    return [*spent, clock(seconds)]


def _processes(plan: Plan) -> str:
    parts = [
        f"{plan.processes}, each with {plan.step_examples / plan.processes:g} of a step's "
        f"{plan.step_examples} examples",
        f"{size(plan.model_bytes)} of gradients are exchanged in a step",
    ]
    if plan.sharded:
        parts.append(f"each keeps 1/{plan.processes} of the weights and optimizer states")
    return "; ".join(parts) + "; batches, their order and masks stay the same"
