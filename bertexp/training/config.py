"""The keys of ``optimizer.*``, ``scheduler.*``, ``trainer.*`` and ``hardware.*``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bertexp.keys import key
from bertexp.validation import UserError, require

MINUTES = re.compile(r"(\d+(?:\.\d+)?)min")

ADAMW, MUON = "adamw", "muon"
DEVICES = ("auto", "cpu", "gpu", "mps")
AUTO_OR_NOT: tuple[str | bool, ...] = ("auto", True, False)


@dataclass(kw_only=True)
class OptimizerConfig:
    """The settings of AdamW, and of Muon beside it.

    Attributes:
        lr: the peak rate; null only in files, see ``with_rate``.
    """

    name: str = key(ADAMW, choices=(ADAMW, MUON))
    lr: float | None = key(within="(0, inf)")
    momentum: float = key(0.95, within="[0, 1)", read_with=("optimizer.name", MUON))
    betas: list[float] = key(within="[0, 1)")
    eps: float = key(within="(0, inf)")
    weight_decay: float = key(within="[0, inf)")

    def __post_init__(self) -> None:
        require(len(self.betas) == 2, "optimizer.betas", self.betas, "two numbers")


@dataclass(kw_only=True)
class SchedulerConfig:
    """How the learning rate changes over the budget."""

    name: str = key(choices=("linear", "cosine", "constant"))
    warmup: float = key(within="[0, 1)")


@dataclass(kw_only=True)
class TrainerConfig:
    """How long a run trains, the size of its steps, and how often it reports."""

    epochs: float | None = key(within="(0, inf)")
    max_steps: int | None = key(within="[1, inf)")
    max_tokens: int | None = key(within="[1, inf)")
    max_time: float | None = key(within="(0, inf)")
    batch_size: int = key(within="[1, inf)")
    gradient_accumulation_steps: int = key(within="[1, inf)")
    gradient_clip: float | None = key(within="(0, inf)")
    log_every: int = key(within="[1, inf)")
    save_every: int | str | None
    keep_checkpoints: int = key(within="[1, inf)")
    max_bad_steps: int = key(within="[1, inf)")
    resume: str | None
    resume_force: bool
    dry_run: bool

    @property
    def save_minutes(self) -> float | None:
        """``trainer.save_every`` if it is a time, else None."""
        found = MINUTES.fullmatch(self.save_every) if isinstance(self.save_every, str) else None
        return float(found[1]) if found else None

    def __post_init__(self) -> None:
        steps = self.save_every if isinstance(self.save_every, int) else 0
        require(
            self.save_every is None or steps >= 1 or bool(self.save_minutes),
            "trainer.save_every",
            self.save_every,
            "a number of steps, minutes such as 10min, or null",
        )
        budget = (self.epochs, self.max_steps, self.max_tokens, self.max_time)
        if all(limit is None for limit in budget):
            raise UserError(
                "trainer: epochs, max_steps, max_tokens and max_time are all null; set one of "
                "them, or the run never ends."
            )


@dataclass(kw_only=True)
class HardwareConfig:
    """What a run computes on; apart from precision, nothing here changes results."""

    device: str = key(choices=DEVICES)
    precision: str = key(choices=("auto", "fp32", "bf16", "fp16"))
    num_processes: int | None = key(within="[1, inf)")
    sharded: bool
    num_workers: int | None = key(within="[0, inf)")
    threads: int | None = key(within="[1, inf)")
    compile: bool | str = key(choices=AUTO_OR_NOT)
    graphs: bool | str = key(choices=AUTO_OR_NOT)

    def __post_init__(self) -> None:
        if self.compile is True and self.sharded:
            raise UserError(
                "hardware.compile=true: not with hardware.sharded=true, whose weights are parts."
            )


@dataclass(kw_only=True)
class TrainingConfig:
    """The part of a run's configuration that the loop reads."""

    optimizer: OptimizerConfig
    scheduler: SchedulerConfig
    trainer: TrainerConfig
    hardware: HardwareConfig
    seed: int

    def __post_init__(self) -> None:
        if self.optimizer.name == MUON and self.hardware.sharded:
            raise UserError(
                "optimizer=muon: not with hardware.sharded=true, as it needs whole matrices; use "
                "optimizer=adamw or hardware=multi_gpu."
            )
