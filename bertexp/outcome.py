"""What ``summary.json`` says of a run: what goes in, what comes out."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bertexp.data import Data
    from bertexp.training.keeper import Keeper
    from bertexp.training.state import TrainState


@dataclass
class Clock:
    """The seconds a run took, those of its earlier parts included where it goes on.

    Attributes:
        preparation, total: the earlier parts'.
    """

    preparation: float = 0.0
    total: float = 0.0
    _began: float = field(default_factory=time.perf_counter)

    def prepared(self) -> None:
        """Count what has passed so far as preparation."""
        self.preparation += time.perf_counter() - self._began

    def read(self) -> dict[str, float]:
        """Return both, as of now."""
        total = self.total + time.perf_counter() - self._began
        return {"preparation": self.preparation, "total": total}


def fingerprints(data: Data) -> dict[str, object]:
    """Return what stands for the contents of a run's data."""
    return {
        "corpus": data.corpus.fingerprint,
        "tokenizer": data.tokenizer.fingerprint,
        "tokens": data.tokens["train"].fingerprint,
        "bank": data.bank.fingerprints,
    }


def results(
    data: Data, state: TrainState, metrics: dict[str, float], keeper: Keeper, clock: Clock
) -> dict[str, object]:
    """Return what is known at the end, named as in ``TrainOutput``."""
    return {
        "status": "finished",
        "train_loss": state.mean_loss,
        "train_runtime": state.seconds,
        "train_samples_per_second": state.examples / state.seconds,
        "train_steps_per_second": state.step / state.seconds,
        "total_flos": state.flops,
        "epoch": state.examples / len(data.examples),
        "metrics": metrics,
        "yardsticks": data.bank.yardsticks,
        "optimum": data.optimum,
        "best": {"eval/loss": keeper.loss, "step": keeper.step, "folder": keeper.best},
        "budget": asdict(state),
        "seconds": clock.read(),
    }
