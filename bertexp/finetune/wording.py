"""What fine-tuning says on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bertexp.experiment.report import listed, remarks
from bertexp.metrics import known_to
from bertexp.tracking.progress import clock
from bertexp.training.rates import explained, fine_tuning_rate

if TYPE_CHECKING:
    from accelerate import Accelerator

    from bertexp.experiment.saved import Saved
    from bertexp.finetune.config import FinetuneConfig
    from bertexp.finetune.labelled import LabelledData
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
    assert config.optimizer.lr is not None
    chosen = fine_tuning_rate(keeper.model.config.hidden_size)
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
        "steps": f"{steps:,} of {trainer.batch_size} example{'s' * (trainer.batch_size != 1)}, "
        f"learning rate {explained(config.optimizer.lr, chosen)} ({config.scheduler.name})",
        "hardware": f"{accelerator.device.type}{', compiled' * config.hardware.compile}",
        "time": f"about {clock(seconds)} of training",
    }
    return Group("", listed(rows), "")


def results(
    judged: str,
    metrics: Mapping[str, float],
    yardsticks: Mapping[str, float],
    before: Mapping[str, float],
    answered: Mapping[str, int],
    state: TrainState,
    best: int | None,
    places: Sequence[Path],
) -> RenderableType:
    """Return the metrics of the best model, what they were before, and where it is.

    Beside them are those of the commonest class, named where the model is no better by ``judged``,
    the metric that decides.
    """
    stopped = ", stopped early" if state.stopped else ""
    table = Table(box=None, pad_edge=False, header_style="bold")
    after = f"after {state.step:,} step{'s' * (state.step != 1)}{stopped}"
    table.add_column(f"{after}; the best, of step {best}")
    beside = {"before": before, "model": metrics, "majority": yardsticks}
    columns = {name: known for name, known in beside.items() if known}
    for name in columns:
        table.add_column(name, justify="right")
    for name in metrics:
        known = (column.get(name) for column in columns.values())
        table.add_row(name, *("" if value is None else f"{value:.3f}" for value in known))
    found = []
    if judged in yardsticks and not metrics[judged] > yardsticks[judged]:
        found.append(
            f"No better than always answering with the commonest class: {judged} is "
            f"{metrics[judged]:.3f}, and {yardsticks[judged]:.3f} without a model."
        )
    if judged in before and not metrics[judged] > before[judged]:
        found.append(f"No better than before training: {judged} was {before[judged]:.3f}.")
    first, *others = map(str, places)
    rows = {"model": first} | ({"predicted": ", ".join(others)} if others else {})
    told = {name: known_to(name, value, answered) for name, value in metrics.items()}
    notes = [Text(f"{n} by its examples (Wilson): 95% {t}", "dim") for n, t in told.items() if t]
    return Group("", table, *notes, "", remarks(found), listed(rows))
