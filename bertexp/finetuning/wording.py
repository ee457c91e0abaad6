"""What fine-tuning says on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table

from bertexp.report import listed
from bertexp.tracking.progress import clock

if TYPE_CHECKING:
    from accelerate import Accelerator

    from bertexp.finetuning.config import FinetuneConfig
    from bertexp.finetuning.labelled import LabelledData
    from bertexp.runs.saved import Saved
    from bertexp.training.keeper import Keeper
    from bertexp.training.state import TrainState

MOST_NAMED = 5


def plan(
    config: FinetuneConfig,
    saved: Saved,
    data: LabelledData,
    keeper: Keeper,
    accelerator: Accelerator,
    steps: int,
    seconds: float,
) -> RenderableType:
    """Return what a run is about to do."""
    task, trainer = config.finetune, config.trainer
    judged = " + ".join(f"{len(examples):,}" for examples in data.validation.values())
    named = ", ".join(data.labels[:MOST_NAMED]) + ", …" * (len(data.labels) > MOST_NAMED)
    rows = {
        "model": f"{saved.source}: {keeper.model.num_parameters():,} parameters",
        "task": f"{task.name}: {len(data.labels)} classes ({named})"
        if data.labels
        else f"{task.name}: scores",
        "examples": f"{len(data.train):,} to train on, {judged} to judge by, of up to "
        f"{keeper.max_length} tokens",
        "judged by": ", ".join(task.metrics),
        "steps": f"{steps:,} of {trainer.batch_size} examples, learning rate "
        f"{config.optimizer.lr:g} ({config.scheduler.name})",
        "hardware": f"{accelerator.device.type}{', compiled' * config.hardware.compile}",
        "time": f"about {clock(seconds)} of training",
    }
    return Group("", listed(rows), "")


def results(
    metrics: Mapping[str, float],
    yardsticks: Mapping[str, float],
    state: TrainState,
    best: int | None,
    places: Sequence[Path],
) -> RenderableType:
    """Return the metrics of the best model beside those of the commonest class, and where it is."""
    stopped = ", stopped early" if state.stopped else ""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"after {state.step:,} steps{stopped}; the best, of step {best}")
    table.add_column("model", justify="right")
    if yardsticks:
        table.add_column("majority", justify="right")
    for name, value in metrics.items():
        known = [f"{yardsticks[name]:.3f}" if name in yardsticks else ""] if yardsticks else []
        table.add_row(name, f"{value:.3f}", *known)
    first, *others = map(str, places)
    rows = {"model": first} | ({"predicted": ", ".join(others)} if others else {})
    return Group("", table, "", listed(rows))
