"""The end of a run: evaluated, exported, recorded and reported."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from bertexp import group
from bertexp.console import short_path, show
from bertexp.experiment import report
from bertexp.experiment.base import Final
from bertexp.experiment.card import model_card
from bertexp.experiment.run import Run
from bertexp.experiment.summary import write_summary
from bertexp.families.build import with_heads
from bertexp.metrics import cost, describe
from bertexp.training.saving import LAST, Saver
from bertexp.training.snapshot import load_learner

# An evaluation loss is reported as risen if it exceeds the best by more than this share.
NOTABLE = 0.01
# The training loss at a step is the mean over this many logged lines.
SMOOTHED = 10


def conclude(run: Run) -> float:
    """Evaluate, export and record the trained model; returns the final ``eval/loss``."""
    experiment, saver, state = run.experiment, run.saver, run.training.state
    folder, device = run.invocation.folder, run.accelerator.device
    best = experiment.exports_best
    with run.clock.counting("evaluation"):
        if best:
            saver.offer(run.cost(experiment.evaluate(run.learner, device)), state.step)
            if saver.best and saver.step != state.step:
                load_learner(run.learner, folder / saver.best)
        final = experiment.conclude(run.learner, folder, device)
    with run.clock.counting("checkpoints"):
        task = experiment.identity().task
        prepared = run.prepared
        if (heads := prepared.own_heads) is not None:
            prepared = replace(prepared, model=with_heads(prepared.model, heads))
        card = model_card(task, run.config.seed, prepared, state, final.metrics)
        saver.export(prepared.model, run.learner, card)
        saver.finish(run.cost(final.metrics), state.step, exports_best=best)
    if group.is_first():
        _record(run, final)
    return final.metrics["eval/loss"]


def _record(run: Run, final: Final) -> None:
    folder, state = run.invocation.folder, run.training.state
    with run.clock.counting("tracking"):
        run.accelerator.log(final.metrics | state.axes(), step=state.step)
        if run.tracker:
            for name, (columns, rows) in final.tables.items():
                run.tracker.log_rows(name, columns, rows)
    write_summary(folder, summary(run, final))
    run.experiment.record(folder, final)
    for part in _report(run, final):
        show(part, log_only=run.invocation.job is not None)


def summary(run: Run, final: Final) -> dict[str, object]:
    """Return the final ``summary.json``; costs are named as in ``TrainOutput``."""
    state, saver, decides = run.training.state, run.saver, run.experiment.decides
    reference = run.prepared.reference
    value = final.metrics[decides] if run.experiment.exports_best else saver.cost
    return {
        "status": "finished",
        "metrics": final.metrics,
        "yardsticks": reference.yardsticks,
        "optimum": reference.optimum,
        "answered": reference.answered,
        "best": {decides: value, "step": saver.step, "folder": saver.best},
        **final.summary,
        "train_loss": state.mean_loss,
        "train_runtime": state.seconds,
        "train_samples_per_second": state.examples / state.seconds,
        "train_steps_per_second": state.step / state.seconds,
        "total_flos": state.flops,
        "epoch": run.epoch,
        "budget": asdict(state),
        "seconds": {"training": state.seconds} | run.clock.read(),
    }


def _report(run: Run, final: Final) -> Iterator[RenderableType]:
    state, saver, folder = run.training.state, run.saver, run.invocation.folder
    heading = report.budget_text(state) + ", stopped early" * state.stopped
    is_best = run.experiment.exports_best
    heading += f"; best: step {saver.step}" * is_best
    lines = run.record.lines()
    reference = run.prepared.reference
    columns = {
        "before": before_training(lines),
        "model": final.metrics,
        "yardstick": reference.yardsticks,
        "optimum": reference.optimum,
    }
    yield report.results(heading, columns, reference.answered, final.details)
    yield Group(*final.samples)
    decides = run.experiment.decides
    found = remarks(lines, final.metrics, reference.yardsticks, saver, decides)
    yield Group(*(Text(f"! {one}\n", "yellow") for one in found))
    best = None
    if saver.best and saver.best != LAST:
        best = (short_path(folder / saver.best), f"eval/loss {saver.cost:.3f}")
    tracker = run.tracker.location if run.tracker else None
    yield report.places(short_path(folder), best, [*map(short_path, final.predictions)], tracker)


def before_training(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the logged ``eval/*`` of step 0, empty if there was no such evaluation."""
    first = next((line for line in lines if "eval/loss" in line), {"step": None})
    found = {name: value for name, value in first.items() if name.startswith("eval/")}
    return {name: math.nan if v is None else v for name, v in found.items() if first["step"] == 0}


def remarks(
    lines: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, float],
    yardsticks: Mapping[str, float],
    saver: Saver,
    decides: str,
) -> list[str]:
    """Return warnings about the model that a run exports.

    ``yardsticks`` are the best values without looking at the input; ``decides`` is the metric by
    which models are compared.
    """
    found, before = [], before_training(lines)
    for name in (each for each in yardsticks if each == decides or describe(each).lower_is_better):
        if not is_better(name, metrics[name], yardsticks[name]):
            found.append(
                f"No better than its yardstick: {name} is {metrics[name]:.3f}, and a predictor "
                f"that does not look at the input has {yardsticks[name]:.3f}."
            )
    if decides in before and not is_better(decides, metrics[decides], before[decides]):
        found.append(
            f"No better than before training: {decides} was {before[decides]:.3f}, now "
            f"{metrics[decides]:.3f}."
        )
    loss = metrics["eval/loss"]
    if saver.step and saver.best != LAST and not loss <= (1 + NOTABLE) * saver.cost:
        rose = f"eval/loss rose from {saver.cost:.3f} at step {saver.step} to {loss:.3f}"
        trained = [line for line in lines if line.get("train/loss") is not None]
        early = [line["train/loss"] for line in trained if line["step"] <= saver.step]
        late = [line["train/loss"] for line in trained if line["step"] > saver.step]
        if early and late and (then := _recent(early)) > (now := _recent(late)):
            rose = f"Overfitting: {rose}, while train/loss fell from {then:.3f} to {now:.3f}"
        found.append(f"{rose}. model/ is the model of the last step; the best is in {saver.best}.")
    return found


def is_better(name: str, value: float, other: float) -> bool:
    """Whether a metric's value is better than another; NaN is never better."""
    return cost(name, value) < cost(name, other)


def _recent(losses: Sequence[float]) -> float:
    return statistics.fmean(losses[-SMOOTHED:])
