"""What drawing masks costs, beside Hugging Face's collator and beside a training step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from bertexp.bench.config import BenchConfig
from bertexp.experiment.prepare import Data, prepare_data
from bertexp.families.build import build_model
from bertexp.masking import STRATEGIES
from bertexp.objectives.blocks import MaskedExamples
from bertexp.objectives.learner import Learner
from bertexp.objectives.task import Task
from bertexp.training.loop import measure_seconds_per_token
from bertexp.training.setup import build_accelerator
from bertexp.validation import UserError

# Batches in a measurement: enough for the clock, few enough to take turns often.
BATCHES = 20
COLLATOR = "DataCollatorForLanguageModeling"


@dataclass(frozen=True)
class MaskingCost:
    """Medians over the repeats.

    Attributes:
        batch_size: sequences of a batch, all of the full length.
        mask_ms: for each strategy, milliseconds to mask a batch of token ids.
        batch_ms: for each strategy, and for the collator, milliseconds from stored examples
            to a masked batch of tensors.
        step_ms: milliseconds of forward and backward on such a batch.
    """

    batch_size: int
    mask_ms: dict[str, float]
    batch_ms: dict[str, float]
    step_ms: float


def measure_masking(config: BenchConfig) -> MaskingCost:
    """Measure all strategies on the configured task, batch size and model, taking turns.

    Raises:
        UserError: the task masks nothing, or the corpus has no batch of full length.
    """
    data = prepare_data(config)
    if not isinstance(data.examples, MaskedExamples):
        raise UserError(f"bench: task={config.task.name} masks nothing; use task=mlm.")
    full = np.flatnonzero(data.examples.lengths(0) == config.task.max_length)
    size = config.trainer.batch_size
    parts = [full[start : start + size] for start in range(0, len(full) - size + 1, size)]
    parts = parts[:BATCHES]
    if not parts:
        raise UserError(
            f"trainer.batch_size={size}: the corpus has only {len(full)} sequences of "
            f"{config.task.max_length} tokens."
        )
    mask = {name: _mask_with(config, data, name, parts) for name in STRATEGIES.names()}
    batch = {name: _batch_with(config, data, name, parts) for name in STRATEGIES.names()}
    batch[COLLATOR] = _collate(data, parts, config)
    mask_times = {name: list[float]() for name in mask}
    batch_times = {name: list[float]() for name in batch}
    for _ in range(config.bench.repeats):
        for jobs, times in ((mask, mask_times), (batch, batch_times)):
            for name, job in jobs.items():
                times[name].append(_milliseconds(job) / len(parts))
    return MaskingCost(
        batch_size=size,
        mask_ms={name: float(np.median(times)) for name, times in mask_times.items()},
        batch_ms={name: float(np.median(times)) for name, times in batch_times.items()},
        step_ms=_step_ms(config, data, parts[0]),
    )


def _examples(config: BenchConfig, data: Data, strategy: str) -> MaskedExamples:
    masking = replace(config.masking, strategy=strategy)
    task = Task.of(config.task, data.tokenizer, masking, config.seed)
    examples = task.examples(data.tokens["train"])
    assert isinstance(examples, MaskedExamples)
    return examples


def _mask_with(
    config: BenchConfig, data: Data, strategy: str, parts: list[np.ndarray]
) -> Callable[[], None]:
    examples = _examples(config, data, strategy)
    batches = [examples.unmasked(part) for part in parts]

    def job() -> None:
        for ids_BL, part in zip(batches, parts, strict=True):
            examples.masker.mask(ids_BL, part, 0)

    return job


def _batch_with(
    config: BenchConfig, data: Data, strategy: str, parts: list[np.ndarray]
) -> Callable[[], None]:
    examples = _examples(config, data, strategy)

    def job() -> None:
        for part in parts:
            examples.batch(0, part)

    return job


def _collate(data: Data, parts: list[np.ndarray], config: BenchConfig) -> Callable[[], None]:
    """The same sequences as lists, as a tokenized data set holds them, through the collator."""
    from transformers import DataCollatorForLanguageModeling

    assert isinstance(data.examples, MaskedExamples)
    collator = DataCollatorForLanguageModeling(
        data.tokenizer.to_transformers(config.task.max_length),
        mlm_probability=config.masking.prob,
    )
    batches = [data.examples.unmasked(part).tolist() for part in parts]

    def job() -> None:
        for rows in batches:
            collator([{"input_ids": row} for row in rows])

    return job


def _milliseconds(job: Callable[[], None]) -> float:
    clock = time.perf_counter()
    job()
    return (time.perf_counter() - clock) * 1e3


def _step_ms(config: BenchConfig, data: Data, part: np.ndarray) -> float:
    accelerator = build_accelerator(config.hardware, [])
    length = config.task.max_length
    model = build_model(
        config.family, config.model, data.task.heads, data.tokenizer, length, config.seed
    )
    objective = Learner(model, data.task.objectives).to(accelerator.device)
    batches = [data.examples.batch(0, part)]
    seconds = measure_seconds_per_token(objective, accelerator, [batches], data.task.weights)
    return seconds * batches[0].tokens * 1e3
