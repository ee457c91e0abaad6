"""The work that all sides of the benchmark do: the same model, sequences, batch size, precision."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from hydra import initialize_config_dir

from bertexp import plugins
from bertexp.bench.config import BenchConfig
from bertexp.config import conf_dir, parse
from bertexp.experiment.prepare import Data, prepare_data
from bertexp.families.build import new_model
from bertexp.families.checkpoint import load_model
from bertexp.objectives.batch import Batch
from bertexp.objectives.examples import Examples, MaskedExamples
from bertexp.training.plan import BatchPlan
from bertexp.validation import UserError, require

BERTEXP, TRAINER = "bertexp", "Trainer"
# Trainer as its users tune it, and the two ways of padding for NSP.
TUNED, PADDED, LONGEST = "Trainer, tuned", "Trainer, to 512", "Trainer, to longest"
NOTEBOOK_LENGTH = 512
# The first process, which writes the initial model of all sides.
PREPARE = "prepare"


@dataclass(frozen=True)
class Measured:
    """What one process of one side measured.

    Attributes:
        first_loss: in nats, on the first batch before training, in evaluation mode and float32.
        tokens: in the measured steps, without padding.
        peak_bytes: the peak memory of the process; of torch on a GPU.
        losses: steps, seconds of training and ``eval/loss`` of each evaluation.
        parts: milliseconds of the parts of a step; like all below, for bertexp only.
        overhead: the time of the loop relative to a bare step, minus 1.
        flops: floating-point operations a second in the measured steps.
        batch_flops: the operations of forward and backward on the first batch.
        machine_flops: operations a second of the machine's matrix product.
    """

    parameters: int
    first_loss: float
    tokens: int
    seconds: float
    peak_bytes: int
    losses: list[tuple[int, float, float]]
    parts: dict[str, float]
    overhead: float = 0.0
    flops: float = 0.0
    batch_flops: float = 0.0
    machine_flops: float = 0.0


def compose(overrides: Sequence[str]) -> BenchConfig:
    """Compose and check the configuration of a process that the benchmark started."""
    plugins.load([*plugins.installed(), *plugins.named_in(overrides)])
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return parse(hydra.compose("bench", overrides=[*overrides]), BenchConfig)


def compose_work(overrides: Sequence[str], model: str) -> BenchConfig:
    others = [each for each in overrides if not each.startswith("model=")]
    return compose([*others, f"model={model}"])


def prepare_work(config: BenchConfig) -> Data:
    """Prepare the data; for masked tokens only sequences of full length.

    Raises:
        UserError: the task cannot be measured, or the corpus is too small.
    """
    if config.task.name not in ("mlm", "nsp"):
        raise UserError(f"bench: task={config.task.name} is not measured; use task=mlm or nsp.")
    passes = config.trainer.gradient_accumulation_steps
    require(passes == 1, "trainer.gradient_accumulation_steps", passes, "1 in a benchmark")
    must_be_blocks(config)
    data = prepare_data(config)
    if isinstance(data.examples, MaskedExamples):
        object.__setattr__(data, "examples", FullLength(data.examples, config.task.max_length))
    if len(data.examples) < config.trainer.batch_size:
        raise UserError(
            f"trainer.batch_size={config.trainer.batch_size}: the corpus has only "
            f"{len(data.examples)} sequences of {config.task.max_length} tokens."
        )
    return data


def must_be_blocks(config: BenchConfig) -> None:
    form, allowed = config.task.format, "blocks beside what reads no other, or in bench.objectives"
    require(form == "blocks", "task.format", form, allowed)


class FullLength(Examples):
    """Masked examples of full length only."""

    def __init__(self, examples: MaskedExamples, length: int) -> None:
        self.examples = examples
        self.ids = np.flatnonzero(examples.lengths(0) == length)

    def __len__(self) -> int:
        return len(self.ids)

    def documents(self) -> np.ndarray:
        return self.examples.documents()[self.ids]

    def lengths(self, epoch: int) -> np.ndarray:
        return self.examples.lengths(epoch)[self.ids]

    def batch(self, epoch: int, example_ids: np.ndarray) -> Batch:
        return self.examples.batch(epoch, self.ids[example_ids])


def write_model(config: BenchConfig, data: Data, folder: Path) -> None:
    torch.manual_seed(config.seed)
    words = max(config.bench.vocab_size, data.tokenizer.vocab_size)
    model = new_model(config.family, config.model, data.task.heads, words, pad_id=0)
    model.save_pretrained(folder)


def read_model(data: Data, folder: Path) -> Any:
    model = load_model(str(folder), data.task.heads)
    model.train()
    return model


def first_batch(config: BenchConfig, data: Data) -> Batch:
    return BatchPlan(data.examples, config.trainer.batch_size, 1, config.seed)[0][0]


def longest(steps: int, loss_steps: int) -> int:
    """Return bertexp's number of steps: up to a loss, a quarter more than Trainer's."""
    return loss_steps + loss_steps // 4 if loss_steps else steps


class Clock:
    """Counts steps, and waits for the GPU before and after the measured ones.

    ``ended`` is the time when the last step was complete, in the units of ``now``.
    """

    def __init__(self, warmup: int, total: int) -> None:
        self._warmup, self._total = warmup, total
        self._steps = 0
        self._began = self.ended = 0.0

    def tick(self, now: Callable[[], float]) -> None:
        """Count a step that has ended; ``now`` returns the current time in seconds."""
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
        return self.ended - self._began


def milliseconds(job: Callable[[], object]) -> float:
    clock = time.perf_counter()
    job()
    wait_for_device()
    return (time.perf_counter() - clock) * 1e3


def wait_for_device() -> None:
    """Wait until the GPU, if one is used, is idle."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
