"""What a dry run says on the terminal."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bertexp import group
from bertexp.console import clock, compact, listed, plural, show, size
from bertexp.experiment.dry_run.measure import make_plan
from bertexp.experiment.dry_run.plan import MEASURED, Plan
from bertexp.training.memory import total_memory

if TYPE_CHECKING:
    from bertexp.experiment.run import Run


NOTE = Text("A dry run: nothing is trained, logged or saved.", "dim")


def show_plan(run: Run) -> float:
    """Say what a run would do and take, see ``make_plan``; returns NaN, as there is no loss.

    Of a sweep's job it is said at the end of the sweep, beside the others.
    """
    plan = make_plan(run)
    if group.is_first() and run.invocation.job is None:
        run.print_plan(plan.steps, plan.steps * plan.step_seconds)
        show(costs(plan))
    return math.nan


def costs(plan: Plan) -> RenderableType:
    """Return what one run would take, to be shown below what it would do."""
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
    """Return what each job of a sweep would take, and all of them.

    Args:
        plans: by the name of the job's folder.
        at_once: jobs that run at the same time.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("job", overflow="fold")
    for name in ("params", "steps", "tokens", "FLOPs", "memory", "disk", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for job, plan in plans:
        table.add_row(
            job,
            compact(plan.parameters),
            compact(plan.steps),
            *_spent(plan.tokens, plan.flops, plan.peak_bytes, plan.disk_bytes, plan.seconds),
        )
    each = [plan for _, plan in plans]
    memory = sum(sorted(plan.peak_bytes * plan.processes for plan in each)[-at_once:])
    label = plural(len(each), "job") + (f", {at_once} at once" if at_once > 1 else "")
    table.add_section()
    table.add_row(
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
    return Group("", table, "", NOTE)


def _spent(tokens: float, flops: float, memory: float, disk: float, seconds: float) -> list[str]:
    spent = [compact(tokens), compact(flops), f"{compact(memory)}B", f"{compact(disk)}B"]
    return [*spent, clock(seconds)]


def _processes(plan: Plan) -> str:
    """Return what is different where several processes train, and what is not."""
    parts = [
        f"{plan.processes}, each with {plan.step_examples / plan.processes:g} of a step's "
        f"{plan.step_examples} examples",
        f"{size(plan.model_bytes)} of gradients are exchanged in a step",
    ]
    if plan.sharded:
        parts.append(f"each keeps 1/{plan.processes} of the weights and optimizer states")
    return "; ".join(parts) + "; batches, their order and masks stay the same"
