"""When the steps that are measured began and ended, of either side."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


class Clock:
    """Counts steps, and waits for a GPU where the measured ones begin and end.

    Args:
        warmup: steps before the measured ones.
        total: the last of all steps.

    Attributes:
        ended: when the last step had been computed, in the seconds of whoever ticks.
    """

    def __init__(self, warmup: int, total: int) -> None:
        self._warmup, self._total = warmup, total
        self._steps = 0
        self._began = self.ended = 0.0

    def tick(self, now: Callable[[], float]) -> None:
        """Count a step that has ended; ``now`` gives the seconds that have passed."""
        self._steps += 1
        if self._steps == self._warmup:
            wait_for_device()
            self._began = now()
        if self._steps == self._total:
            self.ended, clock = now(), time.perf_counter()
            wait_for_device()
            self.ended += time.perf_counter() - clock

    @property
    def seconds(self) -> float:
        """What the measured steps took."""
        return self.ended - self._began


def wait_for_device() -> None:
    """Wait until a GPU, if one is used, has computed what it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
