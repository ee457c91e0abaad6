"""How long a process of the benchmark measures, and the stopwatch that counts its steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch

# A window is as fast as another that is at least so many times as fast.
SETTLED = 0.95
# The windows of a warm-up, at least and at most.
WARM, LIMIT = 3, 60


@dataclass(frozen=True)
class Span:
    """How long a process measures.

    Attributes:
        steps: with the warm-up; on a GPU a process trains for longer.
        loss_steps: Trainer's steps up to the loss that bertexp has to reach; 0: not measured.
        windows, seconds: see ``Stopwatch``.
    """

    steps: int
    loss_steps: int = 0
    windows: int = 1
    seconds: float = 0.0

    @property
    def longest(self) -> int:
        """bertexp's number of steps: up to a loss, a quarter more than Trainer's."""
        return self.loss_steps + self.loss_steps // 4 if self.loss_steps else self.steps

    def stopwatch(self, warmup: int, total: int) -> Stopwatch:
        if self.loss_steps:
            return Stopwatch(1, total - 1)
        return Stopwatch(warmup, self.steps - warmup, self.windows, self.seconds)


class Mark(NamedTuple):
    """A moment when the device has computed all steps so far."""

    step: int
    seconds: float
    tokens: int

    def speed(self, before: Mark) -> float:
        """Return the tokens a second since ``before``."""
        return (self.tokens - before.tokens) / (self.seconds - before.seconds)


class Stopwatch:
    """Measures windows of steps after a warm-up, and waits for the GPU between them.

    Args:
        warmup: the steps of the warm-up; with ``seconds`` those of a window of it.
        steps: of a measured window, at least.
        windows: to measure.
        seconds: of every window, at least; not 0: the warm-up lasts until two windows in a row are
            as fast as the fastest so far.
    """

    def __init__(self, warmup: int, steps: int, windows: int = 1, seconds: float = 0.0) -> None:
        self._warmup, self._steps, self._windows = warmup, steps, windows
        self._least = seconds
        self._last = self._began = Mark(0, time.perf_counter(), 0)
        self._step = 0
        self._warm: list[float] = []
        self._marks: list[Mark] = []

    def tick(self, tokens: int) -> None:
        """Count a step that has ended; ``tokens`` are those of all steps so far."""
        self._step += 1
        steps = self._steps if self._marks else self._warmup
        passed = time.perf_counter() - self._last.seconds
        if self.is_over or self._step - self._last.step < steps or passed < self._least:
            return
        wait_for_device()
        mark = Mark(self._step, time.perf_counter(), tokens)
        self._warm.append(mark.speed(self._last))
        if self._marks or self._has_settled():
            self._marks.append(mark)
        self._last = mark

    def _has_settled(self) -> bool:
        if not self._least or len(self._warm) >= LIMIT:
            return True
        return len(self._warm) >= WARM and min(self._warm[-2:]) >= SETTLED * max(self._warm)

    @property
    def is_over(self) -> bool:
        return len(self._marks) > self._windows

    @property
    def tokens(self) -> int:
        """The tokens of the measured steps."""
        return self._marks[-1].tokens - self._marks[0].tokens

    @property
    def seconds(self) -> float:
        """The time of the measured steps."""
        return self._marks[-1].seconds - self._marks[0].seconds

    @property
    def total_seconds(self) -> float:
        """The time of all steps, with the warm-up."""
        return self._marks[-1].seconds - self._began.seconds

    @property
    def warmup_seconds(self) -> float:
        return self._marks[0].seconds - self._began.seconds

    @property
    def speeds(self) -> list[float]:
        """The tokens a second of each measured window."""
        return [mark.speed(before) for before, mark in pairwise(self._marks)]


def milliseconds(job: Callable[[], object]) -> float:
    began = time.perf_counter()
    job()
    wait_for_device()
    return (time.perf_counter() - began) * 1e3


def wait_for_device() -> None:
    """Wait until the GPU, if one is used, is idle."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
