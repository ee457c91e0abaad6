"""What a run prints: the plan, evaluations and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from bertexp.console import clock, listed, plural, table
from bertexp.experiment.base import Prepared
from bertexp.experiment.rates import explained
from bertexp.metrics import accuracy_interval, describe
from bertexp.objectives.learner import Learner, count_parameters
from bertexp.training.loop import Phase, Training
from bertexp.training.state import TrainState


def plan(
    prepared: Prepared,
    learner: Learner,
    training: Training,
    steps: Sequence[int],
    seconds: float | None,
) -> RenderableType:
    """Return the plan; ``steps`` are those of each phase, or of the last ones that are left."""
    phases = prepared.phases[-len(steps) :]
    mixed, device = training.accelerator.mixed_precision, training.accelerator.device.type
    rows = {
        "steps": "; then ".join(
            _steps(phase, number, prepared.default_rate)
            for phase, number in zip(phases, steps, strict=True)
        ),
        "hardware": f"{device}, {'fp32' if mixed == 'no' else mixed}"
        f"{', compiled' * training.compiled}{', steps as CUDA graphs' * training.recorded}"
        f"{', without padding' * training.batches.packs}",
    }
    if seconds is not None:
        rows["time"] = f"about {clock(seconds)} of training"
    facts = dict(prepared.facts)
    # With those that objectives train beside the model.
    facts["model"] += f", {count_parameters(learner):,} parameters"
    for name, model in learner.models.items():
        sizes = f"{model.config.num_hidden_layers} layers of {model.config.hidden_size}"
        facts["model"] += f" with its {name} of {sizes}"
    return Group("", listed({**facts, **rows}), "")


def _steps(phase: Phase, steps: int, default_rate: tuple[float, str]) -> str:
    trainer, examples = phase.config.trainer, len(phase.examples)
    # A step has at most one epoch.
    size = min(trainer.batch_size, examples)
    passes = min(trainer.gradient_accumulation_steps, -(-examples // size))
    batch = plural(size, "example") + f" × {passes}" * (passes > 1)
    assert phase.config.optimizer.lr is not None
    rate = explained(phase.config.optimizer.lr, default_rate)
    schedule = phase.config.scheduler.name + ", of its own" * phase.restarts
    return f"{steps:,} of {batch}, learning rate {rate} ({schedule})"


def evaluation_line(step: int | None, metrics: Mapping[str, float]) -> str:
    """Return an evaluation in one line; ``step`` is None if it is unknown."""
    names = sorted(
        (name for name in metrics if describe(name).line),
        key=lambda name: not describe(name).lower_is_better,
    )
    values = (f"{name} {metrics[name]:.3f}" for name in names)
    return " · ".join((*([] if step is None else [f"step {step}"]), *values))


def results(
    heading: str,
    columns: Mapping[str, Mapping[str, float]],
    answered: Mapping[str, int],
    details: Sequence[RenderableType] = (),
) -> RenderableType:
    """Return a table of metrics with notes below.

    Args:
        columns: metrics by name, by heading. Those of ``model`` are the rows; empty columns are
            left out.
        answered: by accuracy, its number of independent examples.
    """
    columns = {name: known for name, known in columns.items() if known}
    names = [name for name in columns["model"] if describe(name).results]
    rows = []
    for name in names:
        known = (column.get(name) for column in columns.values())
        # Plus 0: no minus before a zero.
        rows.append(
            [name, *("" if value is None else f"{round(value, 3) + 0:.3f}" for value in known)]
        )
    notes = []
    if "yardstick" in columns:
        notes.append("Yardstick: the best that can be done without looking at the input.")
    intervals = {name: accuracy_interval(name, columns["model"][name], answered) for name in names}
    notes += [f"{name}, by its examples: 95% {found}" for name, found in intervals.items() if found]
    shown = table(heading, *columns, rows=rows)
    return Group("", shown, *(Text(note, "dim") for note in notes), "", *details)


def budget_text(state: TrainState) -> str:
    """Return the cost of a model, as a heading."""
    return f"after {plural(state.step, 'step')}, {clock(state.seconds)}"


def places(
    folder: Path, best: tuple[Path, str] | None, predictions: Sequence[Path], tracker: str | None
) -> RenderableType:
    """Return where everything was written.

    ``best`` is the folder of the best model and its metric, if another model was exported.
    """
    rows = {"run": str(folder), "model": str(folder / "model")}
    if best:
        rows["model"] += " (of the last step)"
        rows["best"] = f"{best[0]} ({best[1]})"
    if predictions:
        rows["predicted"] = ", ".join(map(str, predictions))
    lines = [
        # Each command in one line, however long, to be copied.
        Text.assemble((label.ljust(9), "bold"), line, no_wrap=True, overflow="ignore")
        for label, line in zip_longest(["tracker"], (tracker or "").splitlines(), fillvalue="")
        if line
    ]
    return Group(listed(rows), *lines)
