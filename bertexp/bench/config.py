"""The keys of ``bench.*``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from bertexp.config import Config
from bertexp.files import expanded
from bertexp.keys import key
from bertexp.validation import require

WHAT = ("training", "objectives", "masking", "preparation")
# The settings that are measured on each device, as overrides.
ON_CPU = ("model=tiny", "model=mini", "model=small")
LARGE = "trainer.batch_size=256"
# The first ones matter most: there may be no time for the last.
ON_GPU = (
    *("model=tiny", "model=base", f"model=base {LARGE}", f"model=small {LARGE}"),
    *("model=small", "model=mini"),
)
# The time of the benchmark on a GPU.
SECONDS = 240.0
DEFAULT_MODEL = "tiny"


@dataclass(kw_only=True)
class MeasureConfig:
    """What to measure, and how long."""

    what: list[str] = key(choices=WHAT)
    settings: list[str] | None
    objectives: list[str]
    against: str | None
    repeats: int = key(within="[1, inf)")
    steps: int = key(within="[1, inf)")
    warmup: int = key(within="[1, inf)")
    vocab_size: int = key(within="[1, inf)")
    loss_steps: int = key(within="[0, inf)")
    seconds: float | None = key(within="(0, inf)")
    megabytes: float = key(within="(0, inf)")
    quick: bool

    def __post_init__(self) -> None:
        if self.settings is not None:
            allowed = "one setting at least, each as overrides, or null"
            require(len(self.settings) >= 1, "bench.settings", self.settings, allowed)
        allowed = "one objective at least, each as overrides"
        require(len(self.objectives) >= 1, "bench.objectives", self.objectives, allowed)
        if self.against is not None:
            allowed = "the folder of a checkout of bertexp"
            is_there = (expanded(self.against) / "bertexp" / "bench" / "side.py").is_file()
            require(is_there, "bench.against", self.against, allowed)
            allowed = "0 where bench.against is set"
            require(self.loss_steps == 0, "bench.loss_steps", self.loss_steps, allowed)

    def resolved(self, on_gpu: bool) -> MeasureConfig:
        """Return these keys with the settings and the time of the device, or shortened."""
        require(on_gpu or self.seconds is None, "bench.seconds", self.seconds, "null on a CPU")
        settings = self.settings or [*(ON_GPU if on_gpu else ON_CPU)]
        full = replace(
            self, settings=settings, seconds=self.seconds or (SECONDS if on_gpu else None)
        )
        if not self.quick:
            return full
        return replace(full, settings=settings[:1], repeats=1, steps=8, warmup=2, loss_steps=0)


@dataclass(kw_only=True)
class BenchConfig(Config):
    """An experiment, and how to measure it."""

    command: ClassVar[str] = "bertexp.bench"
    # ``bench.steps`` is the number of steps, and nothing of them is kept.
    ignores: ClassVar[tuple[str, ...]] = (
        *("tracker", "name", "sweep", "phases"),
        *("evaluation.every", "evaluation.pseudo_perplexity", "evaluation.minimal_pairs"),
        *("trainer.epochs", "trainer.max_steps", "trainer.max_tokens", "trainer.max_time"),
        *("trainer.save_every", "trainer.keep_checkpoints", "trainer.resume", "trainer.dry_run"),
    )

    varies: ClassVar[tuple[str, ...]] = ("masking.strategy",)

    bench: MeasureConfig
