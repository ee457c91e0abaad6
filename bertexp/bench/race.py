"""bertexp beside Hugging Face's Trainer: fresh processes, in turn, several times."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from bertexp.bench.config import MeasureConfig
from bertexp.bench.work import (
    BERTEXP,
    LONGEST,
    PREPARE,
    Measured,
    sides,
)
from bertexp.validation import UserError


@dataclass(frozen=True)
class Race:
    """All that the processes of both sides measured on one model.

    Attributes:
        model: its name in ``conf/model``.
        measured: of each side, its processes in their order.
        to_loss: of either side, the process that trained up to a loss; empty if none was asked for.
    """

    model: str
    measured: dict[str, list[Measured]]
    to_loss: dict[str, Measured]

    def speed(self, side: str) -> float:
        """The median of a side's tokens a second."""
        return median(each.tokens_per_second for each in self.measured[side])

    def spread(self, side: str) -> float:
        """Half of the distance from the slowest to the fastest process, relative to the median."""
        speeds = [each.tokens_per_second for each in self.measured[side]]
        return (max(speeds) - min(speeds)) / 2 / self.speed(side)

    def peak_bytes(self, side: str) -> float:
        """The median of a side's peak memory."""
        return median(each.peak_bytes for each in self.measured[side])

    def part(self, name: str) -> float:
        """The median of the milliseconds of a part of bertexp's step."""
        return median(each.parts[name] for each in self.measured[BERTEXP])

    @property
    def overhead(self) -> float:
        """What the loop adds to a bare one on the same batches, relative to that."""
        return median(each.overhead for each in self.measured[BERTEXP])

    @property
    def utilisation(self) -> float:
        """bertexp's floating-point operations a second, relative to the matrix product's."""
        return median(each.flops / each.machine_flops for each in self.measured[BERTEXP])

    @property
    def model_utilisation(self) -> float:
        """The same of forward and backward alone: encoder, head and loss."""
        return median(
            1e3 * each.batch_flops / each.parts["forward and backward"] / each.machine_flops
            for each in self.measured[BERTEXP]
        )

    def seconds_to_loss(self) -> tuple[float, float] | None:
        """bertexp's and Trainer's seconds up to Trainer's last loss; None if it was not reached."""
        ((_, their_seconds, loss),) = self.to_loss[self._other].losses
        for _, seconds, reached in self.to_loss[BERTEXP].losses:
            if reached <= loss:
                return seconds, their_seconds
        return None

    def losses_at_the_end(self) -> tuple[float, float]:
        """bertexp's and Trainer's loss after as many steps."""
        ((steps, _, loss),) = self.to_loss[self._other].losses
        ours = {step: reached for step, _, reached in self.to_loss[BERTEXP].losses}
        return ours[steps], loss

    @property
    def _other(self) -> str:
        return next(side for side in self.to_loss if side != BERTEXP)

    def figures(self) -> dict[str, Any]:
        """Return all of it as plain values, for ``bench.json``."""
        medians = {
            side: {
                "tokens_per_second": self.speed(side),
                "spread": self.spread(side),
                "peak_bytes": self.peak_bytes(side),
                "speedup": self.speed(BERTEXP) / self.speed(side),
                "memory": self.peak_bytes(BERTEXP) / self.peak_bytes(side),
            }
            for side in self.measured
        }
        found: dict[str, Any] = {"sides": medians, "overhead": self.overhead}
        found |= {"utilisation": self.utilisation, "model_utilisation": self.model_utilisation}
        if self.to_loss:
            found["seconds_to_loss"] = self.seconds_to_loss()
            found["losses"] = self.losses_at_the_end()
        return found | asdict(self)


def run_races(
    bench: MeasureConfig, overrides: Sequence[str], task: str, said: Callable[[str], None]
) -> list[Race]:
    """Measure every model; ``said`` gets a line before each process.

    Raises:
        UserError: what cannot be measured, or a process that failed.
    """
    taking_part = sides(task)
    races = []
    for name in bench.models:
        with TemporaryDirectory(prefix="bertexp-bench-") as folder:
            start = _Start(Path(folder), name, bench, overrides)
            measured: dict[str, list[Measured]] = {side: [] for side in taking_part}
            for turn in range(bench.repeats):
                for side in taking_part:
                    said(f"{name} · {side} · {turn + 1} of {bench.repeats}")
                    measured[side].append(start.process(side))
            to_loss = {}
            if bench.loss_steps:
                for side in (BERTEXP, LONGEST if task == "nsp" else taking_part[1]):
                    said(f"{name} · {side} · {bench.loss_steps} steps")
                    to_loss[side] = start.process(side, bench.loss_steps)
            races.append(Race(name, measured, to_loss))
    return races


class _Start:
    """Starts the processes that train one model."""

    def __init__(
        self, folder: Path, model: str, bench: MeasureConfig, overrides: Sequence[str]
    ) -> None:
        self._folder, self._model = folder, model
        self._bench, self._overrides = bench, list(overrides)
        self._run(PREPARE, 0)

    def process(self, side: str, loss_steps: int = 0) -> Measured:
        """Return what a process of ``side`` measured."""
        result = self._run(side, loss_steps)
        found = Measured(**json.loads(result.read_text(encoding="utf-8")))
        result.unlink()
        return found

    def _run(self, side: str, loss_steps: int) -> Path:
        result = self._folder / "result.json"
        # Up to a loss both train at the same rates, whatever the budget.
        overrides = [*self._overrides, *(["scheduler=constant"] if loss_steps else [])]
        asked = {
            "side": side,
            "model": self._model,
            "overrides": [*overrides, f"bench.warmup={self._bench.warmup}"],
            "folder": str(self._folder / "model"),
            "result": str(result),
            "steps": self._bench.warmup + self._bench.steps,
            "loss_steps": loss_steps,
        }
        done = subprocess.run(
            [sys.executable, "-m", "bertexp.bench.side", json.dumps(asked)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise UserError((done.stderr.strip().splitlines() or [f"bench: {side} failed"])[-1])
        return result
