"""What ``optimizer.*``, ``scheduler.*``, ``trainer.*`` and ``hardware.*`` may say."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from bertexp.validation import UserError, require, require_choice

MINUTES = re.compile(r"(\d+(?:\.\d+)?)min")

DEVICES = ("auto", "cpu", "gpu", "mps")


@dataclass(kw_only=True)
class OptimizerConfig:
    """AdamW's settings.

    Attributes:
        lr: the peak rate; null in files only, see ``with_rate``.
    """

    lr: float | None
    betas: list[float]
    eps: float
    weight_decay: float

    def __post_init__(self) -> None:
        allowed = "above 0 and finite, or null"
        require(self.lr is None or 0 < self.lr < math.inf, "optimizer.lr", self.lr, allowed)
        require(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            "optimizer.betas",
            self.betas,
            "two numbers, each at least 0 and below 1",
        )
        require(0 < self.eps < math.inf, "optimizer.eps", self.eps, "above 0 and finite")
        decay = self.weight_decay
        require(0 <= decay < math.inf, "optimizer.weight_decay", decay, "at least 0 and finite")


@dataclass(kw_only=True)
class SchedulerConfig:
    """How the learning rate moves over the budget."""

    name: str
    warmup: float

    def __post_init__(self) -> None:
        require_choice("scheduler.name", self.name, ("linear", "cosine", "constant"))
        require(0 <= self.warmup < 1, "scheduler.warmup", self.warmup, "at least 0 and below 1")


@dataclass(kw_only=True)
class TrainerConfig:
    """How long a run trains, in which steps, and how often it says so."""

    epochs: float | None
    max_steps: int | None
    max_tokens: int | None
    max_time: float | None
    batch_size: int
    gradient_accumulation_steps: int
    gradient_clip: float | None
    log_every: int
    save_every: int | str | None
    keep_checkpoints: int
    max_bad_steps: int
    resume: str | None
    resume_force: bool
    dry_run: bool

    @property
    def save_minutes(self) -> float | None:
        """``trainer.save_every`` where it is a time, else None."""
        found = MINUTES.fullmatch(self.save_every) if isinstance(self.save_every, str) else None
        return float(found[1]) if found else None

    def __post_init__(self) -> None:
        budget = ("epochs", "max_steps", "max_tokens", "max_time")
        for key in (*budget, "gradient_clip"):
            value = getattr(self, key)
            require(
                value is None or 0 < value < math.inf, f"trainer.{key}", value, "above 0, or null"
            )
        counts = ("batch_size", "gradient_accumulation_steps", "log_every")
        for key in (*counts, "keep_checkpoints", "max_bad_steps"):
            require(getattr(self, key) >= 1, f"trainer.{key}", getattr(self, key), "at least 1")
        steps = self.save_every if isinstance(self.save_every, int) else 0
        require(
            self.save_every is None or steps >= 1 or bool(self.save_minutes),
            "trainer.save_every",
            self.save_every,
            "a number of steps, minutes such as 10min, or null",
        )
        if all(getattr(self, key) is None for key in budget):
            raise UserError(
                "trainer: epochs, max_steps, max_tokens and max_time are all null; set one of "
                "them, or the run never ends."
            )


@dataclass(kw_only=True)
class HardwareConfig:
    """What a run computes on. None of it changes what is computed, precision excepted."""

    device: str
    precision: str
    num_processes: int | None
    sharded: bool
    num_workers: int | None
    threads: int | None
    compile: bool

    def __post_init__(self) -> None:
        require_choice("hardware.device", self.device, DEVICES)
        require_choice("hardware.precision", self.precision, ("auto", "fp32", "bf16", "fp16"))
        require(
            self.num_processes is None or self.num_processes >= 1,
            "hardware.num_processes",
            self.num_processes,
            "at least 1, or null for one on each GPU",
        )
        require(
            self.num_workers is None or self.num_workers >= 0,
            "hardware.num_workers",
            self.num_workers,
            "at least 0, or null for two on a GPU",
        )
        require(
            self.threads is None or self.threads >= 1,
            "hardware.threads",
            self.threads,
            "at least 1, or null for all cores",
        )
        if self.compile and self.sharded:
            raise UserError(
                "hardware.compile=true: not with hardware.sharded=true, whose weights are parts."
            )


@dataclass(kw_only=True)
class TrainingConfig:
    """What the loop reads of a run's configuration."""

    optimizer: OptimizerConfig
    scheduler: SchedulerConfig
    trainer: TrainerConfig
    hardware: HardwareConfig
    seed: int
