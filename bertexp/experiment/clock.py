"""The seconds that a run took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Clock:
    """The seconds that a run took, since its first start if it was resumed.

    Attributes:
        total: up to the last stop.
        preparation, evaluation, checkpoints, tracking: the parts that were not training.
    """

    total: float = 0.0
    preparation: float = 0.0
    evaluation: float = 0.0
    checkpoints: float = 0.0
    tracking: float = 0.0
    _began: float = field(default_factory=time.perf_counter)

    @contextmanager
    def counting(self, part: str) -> Iterator[None]:
        """Add the time of a ``with`` block to ``part``, the name of an attribute."""
        began = time.perf_counter()
        yield
        setattr(self, part, getattr(self, part) + time.perf_counter() - began)

    def read(self) -> dict[str, float]:
        seconds = {name: value for name, value in vars(self).items() if name != "_began"}
        return seconds | {"total": self.total + time.perf_counter() - self._began}
