"""What ``python -m bertexp.bench`` may be asked."""

from __future__ import annotations

from dataclasses import dataclass

from bertexp.config import Config
from bertexp.validation import require


@dataclass(kw_only=True)
class MeasureConfig:
    """How to measure."""

    repeats: int

    def __post_init__(self) -> None:
        require(self.repeats >= 1, "bench.repeats", self.repeats, "at least 1")


@dataclass(kw_only=True)
class BenchConfig(Config):
    """An experiment, and how to measure its parts."""

    bench: MeasureConfig
