"""What ``summary.json`` says of a run: what goes in, what comes out."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from bertexp.training.keeper import LAST

if TYPE_CHECKING:
    from bertexp.experiment.prepare import Data
    from bertexp.training.keeper import Keeper
    from bertexp.training.state import TrainState


# An evaluation loss that is above the best by less than this share of it goes without saying.
NOTABLE = 0.01
# Logged lines whose mean is taken for the training loss at a step.
SMOOTHED = 10


@dataclass
class Clock:
    """The seconds a run took, and on what; where it goes on, those before it stopped included.

    Attributes:
        total: all of them, up to the last stop.
        preparation, evaluation, checkpoints, tracking: what of these was not training.
    """

    total: float = 0.0
    preparation: float = 0.0
    evaluation: float = 0.0
    checkpoints: float = 0.0
    tracking: float = 0.0
    _began: float = field(default_factory=time.perf_counter)

    @contextmanager
    def counting(self, part: str) -> Iterator[None]:
        """Count the time of a ``with`` block as ``part``, the name of an attribute."""
        began = time.perf_counter()
        yield
        setattr(self, part, getattr(self, part) + time.perf_counter() - began)

    def read(self) -> dict[str, float]:
        """Return all of it by name, as of now."""
        seconds = {name: value for name, value in vars(self).items() if name != "_began"}
        return seconds | {"total": self.total + time.perf_counter() - self._began}


def fingerprints(data: Data) -> dict[str, object]:
    """Return what stands for the contents of a run's data."""
    bank = data.bank.fingerprints
    for evaluator in data.evaluators:
        bank |= evaluator.fingerprints()
    return {
        "corpus": data.corpus.fingerprint,
        "tokenizer": data.tokenizer.fingerprint,
        "tokens": data.tokens["train"].fingerprint,
        "bank": bank,
    }


def before_training(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return ``eval/*`` before the first step, from a run's logged lines; nothing without it."""
    first = next((line for line in lines if "eval/loss" in line), {"step": None})
    found = {name: value for name, value in first.items() if name.startswith("eval/")}
    return {name: math.nan if v is None else v for name, v in found.items() if first["step"] == 0}


def remarks(
    lines: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, float],
    yardsticks: Mapping[str, float],
    keeper: Keeper,
) -> list[str]:
    """Return what is wrong with the last model of a pre-training run, in plain words.

    Args:
        lines: that the run has logged.
        metrics: of the last model.
        yardsticks: what can be had without looking at the input.
        keeper: knows the best model.
    """
    found = []
    for name in (name for name in yardsticks if name.endswith("loss")):
        if not metrics[name] <= yardsticks[name]:
            found.append(
                f"Worse than its yardstick: {name} is {metrics[name]:.3f}, and a predictor that "
                f"does not look at the input has {yardsticks[name]:.3f}."
            )
    loss, start = metrics["eval/loss"], before_training(lines).get("eval/loss", math.inf)
    if not loss <= start:
        found.append(f"Worse than before training: eval/loss was {start:.3f}, now {loss:.3f}.")
    if keeper.step and keeper.best != LAST and not loss <= (1 + NOTABLE) * keeper.loss:
        rose = f"eval/loss rose from {keeper.loss:.3f} at step {keeper.step} to {loss:.3f}"
        trained = [line for line in lines if line.get("train/loss") is not None]
        early = [line["train/loss"] for line in trained if line["step"] <= keeper.step]
        late = [line["train/loss"] for line in trained if line["step"] > keeper.step]
        if early and late and (then := _recent(early)) > (now := _recent(late)):
            rose = f"Overfitting: {rose}, while train/loss fell from {then:.3f} to {now:.3f}"
        found.append(f"{rose}. model/ is the model of the last step; the best is in {keeper.best}.")
    return found


def _recent(losses: Sequence[float]) -> float:
    return statistics.fmean(losses[-SMOOTHED:])


def answered(data: Data) -> dict[str, int]:
    """Return how many examples each accuracy is of, by the metric's name."""
    found = data.bank.answered
    for evaluator in data.evaluators:
        found |= evaluator.answered()
    return found


def results(
    data: Data, state: TrainState, metrics: dict[str, float], keeper: Keeper, clock: Clock
) -> dict[str, object]:
    """Return what is known at the end."""
    return {
        "metrics": metrics,
        "yardsticks": data.bank.yardsticks,
        "optimum": data.optimum,
        "answered": answered(data),
        "best": {"eval/loss": keeper.loss, "step": keeper.step, "folder": keeper.best},
        **trained(state, len(data.examples), clock),
    }


def trained(state: TrainState, examples: int, clock: Clock) -> dict[str, object]:
    """Return what was spent, named as in ``TrainOutput``; an epoch has so many examples."""
    return {
        "status": "finished",
        "train_loss": state.mean_loss,
        "train_runtime": state.seconds,
        "train_samples_per_second": state.examples / state.seconds,
        "train_steps_per_second": state.step / state.seconds,
        "total_flos": state.flops,
        "epoch": state.examples / examples,
        "budget": asdict(state),
        "seconds": {"training": state.seconds} | clock.read(),
    }
