"""The work that all sides of the benchmark do: the same model, sequences, batch size, precision."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch

from bertexp import plugins
from bertexp.arguments import composing
from bertexp.bench.config import BenchConfig
from bertexp.config import parse
from bertexp.experiment.prepare import Data, prepare_data
from bertexp.families.build import new_model
from bertexp.families.checkpoint import load_model
from bertexp.mistakes import in_one_line
from bertexp.objectives.batch import Batch
from bertexp.objectives.examples import Examples, MaskedExamples
from bertexp.training.plan import BatchPlan
from bertexp.validation import UserError, require

BERTEXP, TRAINER = "bertexp", "Trainer"
# Trainer as its users tune it, and the two ways of padding for NSP.
TUNED, PADDED, LONGEST = "Trainer, tuned", "Trainer, to 512", "Trainer, to longest"
# bertexp of another checkout.
OTHER = "bertexp, against"
NOTEBOOK_LENGTH = 512


@dataclass(frozen=True)
class Measured:
    """What one process of one side measured.

    Attributes:
        first_loss: in nats, on the first batch before training, in evaluation mode and float32.
        tokens: in the measured steps, without padding.
        peak_bytes: the peak memory of the process; of torch on a GPU.
        losses: steps, seconds of training and ``eval/loss`` of each evaluation.
        speeds: tokens a second in each window, in the order of time.
        warmup_seconds: from the start of the loop to the first measured step.
        device: the name of the GPU, if one was used.
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
    speeds: list[float]
    warmup_seconds: float
    device: str
    parts: dict[str, float] = field(default_factory=dict)
    overhead: float = 0.0
    flops: float = 0.0
    batch_flops: float = 0.0
    machine_flops: float = 0.0


def compose(overrides: Sequence[str]) -> BenchConfig:
    """Compose and check a configuration, in the command or a process that it started."""
    plugins.load([*plugins.installed(), *plugins.named_in(overrides)])
    with in_one_line(BenchConfig), composing():
        return parse(hydra.compose("bench", overrides=[*overrides]), BenchConfig)


def without_bench(overrides: Sequence[str]) -> list[str]:
    return [each for each in overrides if not each.lstrip("+").startswith("bench.")]


def run_process(
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
    seconds: float | None = None,
) -> str:
    """Run Python in a process of its own, and return its output; '' if its time was over.

    Args:
        seconds: after which it is ended, None for never.

    Raises:
        UserError: it failed, with the last line of its errors.
    """
    command: Any = [sys.executable, *arguments]
    own: Any = {"env": environment, "capture_output": True, "text": True, "timeout": seconds}
    try:
        done = subprocess.run(command, **own)
    except subprocess.TimeoutExpired:
        return ""
    if done.returncode:
        if os.environ.get("HYDRA_FULL_ERROR"):
            print(done.stderr, file=sys.stderr)
        raise UserError((done.stderr.strip().splitlines() or ["bench: a process failed"])[-1])
    return done.stdout


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
    # Nothing is evaluated but the loss.
    data = prepare_data(replace(config, evaluation=replace(config.evaluation, evaluators=[])))
    if isinstance(data.examples, MaskedExamples):
        size, length = config.trainer.batch_size, config.task.max_length
        data = replace(data, examples=FullLength(data.examples, length, size))
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
    """Masked examples of full length only, as many as fill whole batches of ``size``."""

    def __init__(self, examples: MaskedExamples, length: int, size: int) -> None:
        self.examples = examples
        full = np.flatnonzero(examples.lengths(0) == length)
        # Both sides leave out the rest: Trainer drops an epoch's last batch.
        self.ids = full[: len(full) // size * size or None]

    def __len__(self) -> int:
        return len(self.ids)

    def documents(self) -> np.ndarray:
        return self.examples.documents()[self.ids]

    def lengths(self, epoch: int) -> np.ndarray:
        return self.examples.lengths(epoch)[self.ids]

    def batch(self, epoch: int, example_ids: np.ndarray) -> Batch:
        return self.examples.batch(epoch, self.ids[example_ids])


def write_model(config: BenchConfig, data: Data, folder: Path) -> None:
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # it would cut through the command's own
    torch.manual_seed(config.seed)
    words = max(config.bench.vocab_size, data.tokenizer.vocab_size)
    model = new_model(config.family, config.model, data.task.heads, words, pad_id=0)
    model.save_pretrained(folder)


def read_model(data: Data, folder: Path) -> Any:
    model = load_model(str(folder), data.task.heads)
    model.train()
    return model


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_initialized() else ""


def first_batch(config: BenchConfig, data: Data) -> Batch:
    return BatchPlan(data.examples, config.trainer.batch_size, 1, config.seed)[0][0]
