"""What ``summary.json`` says of a run: what goes in, what comes out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from bertexp.probes.measure import PREFIX

if TYPE_CHECKING:
    from bertexp.data import Data
    from bertexp.training.keeper import Keeper
    from bertexp.training.state import TrainState


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
    return {
        "corpus": data.corpus.fingerprint,
        "tokenizer": data.tokenizer.fingerprint,
        "tokens": data.tokens["train"].fingerprint,
        "bank": data.bank.fingerprints
        | {f"{PREFIX}{asked.name}": asked.fingerprint for asked in data.probes},
    }


def results(
    data: Data, state: TrainState, metrics: dict[str, float], keeper: Keeper, clock: Clock
) -> dict[str, object]:
    """Return what is known at the end."""
    return {
        "metrics": metrics,
        "yardsticks": data.bank.yardsticks,
        "optimum": data.optimum,
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
