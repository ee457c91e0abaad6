"""The work that both sides do: the same model, sequences, batch size and precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir

from bertexp import plugins
from bertexp.bench.config import BenchConfig
from bertexp.config import conf_dir, parse
from bertexp.experiment.prepare import Data, prepare_data
from bertexp.families.build import new_model
from bertexp.families.checkpoint import load_model
from bertexp.objectives.batch import Batch
from bertexp.objectives.blocks import MaskedExamples
from bertexp.objectives.examples import Examples
from bertexp.training.plan import BatchPlan
from bertexp.validation import UserError, require

BERTEXP, TRAINER = "bertexp", "Trainer"
# What Trainer's users set when it is slow, and NSP's two ways of padding.
TUNED, PADDED, LONGEST = "Trainer, tuned", "Trainer, to 512", "Trainer, to longest"
NOTEBOOK_LENGTH = 512
# The process before all others, which writes the model that both sides begin with.
PREPARE = "prepare"


def sides(task: str) -> tuple[str, ...]:
    """Return who takes part."""
    return (BERTEXP, PADDED, LONGEST) if task == "nsp" else (BERTEXP, TRAINER, TUNED)


@dataclass(frozen=True)
class Measured:
    """What one process of one side measured.

    Attributes:
        parameters: of the model.
        first_loss: in nats, on the first batch before training, in evaluation mode and float32.
        tokens: in the measured steps, padding not counted.
        seconds: that these took.
        peak_bytes: the most memory that the process held; on a GPU, that torch held there.
        losses: after how many steps and seconds of training which ``eval/loss`` was reached.
        parts: milliseconds of the parts of a step; of bertexp only.
        overhead: what share the loop adds to a bare step; of bertexp only.
        flops: floating-point operations a second of the measured steps; of bertexp only.
        batch_flops: operations of forward and backward on the first batch; of bertexp only.
        machine_flops: of the machine's own matrix product; of bertexp only.
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

    @property
    def tokens_per_second(self) -> float:
        """Real tokens a second in the measured steps."""
        return self.tokens / self.seconds


def compose_work(overrides: Sequence[str], model: str) -> BenchConfig:
    """Return the configuration of a side that trains ``model``."""
    plugins.load([*plugins.installed(), *plugins.named_in(overrides)])
    others = [each for each in overrides if not each.startswith("model=")]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return parse(compose("bench", overrides=[*others, f"model={model}"]), BenchConfig)


def prepare_work(config: BenchConfig) -> Data:
    """Prepare the data, with nothing but sequences of full length to train on where it masks.

    Raises:
        UserError: a task that is not measured, or too small a corpus.
    """
    if config.task.name not in ("mlm", "nsp"):
        raise UserError(f"bench: task={config.task.name} is not measured; use task=mlm or nsp.")
    accumulated = config.trainer.gradient_accumulation_steps
    require(
        accumulated == 1, "trainer.gradient_accumulation_steps", accumulated, "1 in a benchmark"
    )
    data = prepare_data(config)
    if isinstance(data.examples, MaskedExamples):
        object.__setattr__(data, "examples", FullLength(data.examples, config.task.max_length))
    if len(data.examples) < config.trainer.batch_size:
        raise UserError(
            f"trainer.batch_size={config.trainer.batch_size}: the corpus has only "
            f"{len(data.examples)} sequences of {config.task.max_length} tokens."
        )
    return data


class FullLength(Examples):
    """Those of some masked examples that are not shorter than all others."""

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
    """Write the model that both sides begin with."""
    torch.manual_seed(config.seed)
    words = max(config.bench.vocab_size, data.tokenizer.vocab_size)
    model = new_model(config.family, config.model, data.task.heads, words, pad_id=0)
    model.save_pretrained(folder)


def read_model(data: Data, folder: Path) -> Any:
    """Return the model that both sides begin with, in training mode."""
    model = load_model(str(folder), data.task.heads)
    model.train()
    return model


def first_batch(config: BenchConfig, data: Data) -> Batch:
    """Return the batch on which both sides' losses are compared before they train."""
    return BatchPlan(data.examples, config.trainer.batch_size, 1, config.seed)[0][0]


def dense(batch: Batch) -> dict[str, torch.Tensor]:
    """Return a batch as the models of ``transformers`` take it, labels at every position."""
    length = batch.input_ids_BL.shape[1]
    found = {"input_ids": batch.input_ids_BL}
    if batch.attention_mask_BL is not None:
        found["attention_mask"] = batch.attention_mask_BL
    (target,) = batch.targets.values()
    if batch.token_type_ids_BL is not None:
        return found | {"token_type_ids": batch.token_type_ids_BL, "labels": target.labels_N}
    labels = torch.full((len(batch.example_ids) * length,), -100)
    labels[target.positions_N] = target.labels_N
    return found | {"labels": labels.view(-1, length)}


def longest(steps: int, loss_steps: int) -> int:
    """Return for how many steps bertexp trains: up to a quarter more than Trainer to its loss."""
    return loss_steps + loss_steps // 4 if loss_steps else steps
