"""The other side of the benchmark: Hugging Face's Trainer on the same work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from bertexp.bench.config import BenchConfig
from bertexp.bench.stopwatch import Span, Stopwatch
from bertexp.bench.work import (
    NOTEBOOK_LENGTH,
    PADDED,
    TUNED,
    FullLength,
    Measured,
    device_name,
    first_batch,
    prepare_work,
    read_model,
)
from bertexp.data.tokens.roles import to_transformers
from bertexp.evaluation.bank import evaluate
from bertexp.experiment.prepare import Data
from bertexp.objectives.batch import Batch
from bertexp.objectives.learner import Learner, count_parameters
from bertexp.training.machine import keep_freed_memory, peak_memory
from bertexp.training.setup import DEFAULT_THREADS, choose_device, mixed_precision

PAIRS_AT_ONCE = 1000
# The most steps of a process that the clock ends: the slowest model takes as long for 100.
MOST_STEPS = 10_000
# If Trainer is tuned, a model is compiled on a GPU where a step has so many layers times sequences:
# it takes a minute.
COMPILED_LAYERS = 12 * 256


class _Counting(Trainer):
    """Counts each batch's tokens without padding, which its collator adds to the batch."""

    tokens = 0

    def training_step(self, model: Any, inputs: Any, *others: Any) -> torch.Tensor:
        self.tokens += inputs.pop("tokens")
        return super().training_step(model, inputs, *others)


class _Watch(TrainerCallback):
    def __init__(self, trainer: _Counting, stopwatch: Stopwatch) -> None:
        self._trainer, self._stopwatch = trainer, stopwatch

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._stopwatch.tick(self._trainer.tokens)
        control.should_training_stop |= self._stopwatch.is_over


class _Repeated(Dataset[dict[str, Any]]):
    """Rows again and again, so that no epoch ends, and no loader is started again."""

    def __init__(self, rows: list[dict[str, Any]], count: int) -> None:
        self._rows, self._count = rows, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._rows[index % len(self._rows)]


def measure_trainer(config: BenchConfig, folder: Path, side: str, span: Span) -> Measured:
    data = prepare_work(config)
    device = choose_device(config.hardware.device)
    on_cpu = device.type == "cpu"
    torch.set_num_threads(config.hardware.threads or DEFAULT_THREADS)
    model: Any = read_model(data, folder).to(device)
    if side == TUNED and on_cpu:
        # Its products are faster than fused attention; and freed memory is kept as in bertexp.
        model.set_attn_implementation("eager")
        keep_freed_memory()
    first = first_batch(config, data)
    first_loss = _loss(model, _dense(first.to(device)))
    total = MOST_STEPS if span.seconds else span.loss_steps or span.steps
    arguments = _arguments(config, folder, side, on_cpu, total)
    # Both sides warm up for the same number of steps.
    arguments.warmup_steps = int(config.scheduler.warmup * max(total, span.longest))
    rows: Any = _rows(data)
    if span.seconds:
        rows = _Repeated(rows, total * config.trainer.batch_size)
    collator = _collator(data, config, side, on_cpu)
    trainer = _Counting(model=model, args=arguments, train_dataset=rows, data_collator=collator)
    stopwatch = span.stopwatch(config.bench.warmup, total)
    trainer.add_callback(_Watch(trainer, stopwatch))
    trainer.train()
    peak = peak_memory()
    losses = []
    if span.loss_steps:
        metrics = evaluate(Learner(model, data.task.objectives), data.bank, model.device)
        losses.append((total, stopwatch.total_seconds, metrics["eval/loss"]))
    return Measured(
        parameters=count_parameters(model),
        first_loss=first_loss,
        tokens=stopwatch.tokens,
        seconds=stopwatch.seconds,
        peak_bytes=peak,
        losses=losses,
        speeds=stopwatch.speeds,
        warmup_seconds=stopwatch.warmup_seconds,
        device=device_name(),
    )


def _arguments(
    config: BenchConfig, folder: Path, side: str, on_cpu: bool, steps: int
) -> TrainingArguments:
    optimizer, scheduler = config.optimizer, config.scheduler
    assert optimizer.lr is not None
    precision = mixed_precision(config.hardware.precision, on_cpu)
    tuned_for_gpu = side == TUNED and not on_cpu
    layers = config.model.num_hidden_layers * config.trainer.batch_size
    return TrainingArguments(
        output_dir=str(folder / "trainer"),
        per_device_train_batch_size=config.trainer.batch_size,
        max_steps=steps,
        learning_rate=optimizer.lr,
        adam_beta1=optimizer.betas[0],
        adam_beta2=optimizer.betas[1],
        adam_epsilon=optimizer.eps,
        weight_decay=optimizer.weight_decay,
        max_grad_norm=config.trainer.gradient_clip or 0.0,
        lr_scheduler_type="linear" if scheduler.name == "linear" else "constant_with_warmup",
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=on_cpu,
        seed=config.seed,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=10**6 if side == TUNED else config.trainer.log_every,
        # It looks at every loss: on a GPU it waits for it.
        logging_nan_inf_filter=side != TUNED,
        torch_compile=tuned_for_gpu and layers >= COMPILED_LAYERS,
        dataloader_drop_last=True,
        dataloader_pin_memory=not on_cpu,
        # On a GPU the next batch is made and copied meanwhile.
        dataloader_num_workers=4 if tuned_for_gpu else 0,
        accelerator_config={"non_blocking": tuned_for_gpu},
        # Not looked for in every row: there is none.
        remove_unused_columns=not tuned_for_gpu,
    )


def _rows(data: Data) -> list[dict[str, Any]]:
    examples = data.examples
    if isinstance(examples, FullLength):
        return [{"input_ids": ids.tolist()} for ids in examples.examples.unmasked(examples.ids)]
    rows: list[dict[str, Any]] = []
    for part in np.array_split(np.arange(len(examples)), -(-len(examples) // PAIRS_AT_ONCE)):
        batch, lengths = examples.batch(0, part), examples.lengths(0)[part]
        assert batch.token_type_ids_BL is not None
        columns = (batch.input_ids_BL, batch.token_type_ids_BL, batch.targets["nsp"].labels_N)
        for ids, types, label, length in zip(*columns, lengths, strict=True):
            row = {"input_ids": ids[:length].tolist(), "token_type_ids": types[:length].tolist()}
            rows.append(row | {"labels": int(label)})
    return rows


def _collator(data: Data, config: BenchConfig, side: str, on_cpu: bool) -> Any:
    """Return the collator that Trainer's users take; it also counts each batch's real tokens."""
    length = NOTEBOOK_LENGTH if side == PADDED else config.task.max_length
    tokenizer = to_transformers(data.tokenizer, length)
    collate: Any
    fills = isinstance(data.examples, FullLength)
    if fills:
        collate = DataCollatorForLanguageModeling(
            tokenizer, mlm_probability=config.masking.prob, seed=config.seed
        )
    elif side == PADDED:
        collate = DataCollatorWithPadding(tokenizer, padding="max_length", max_length=length)
    else:
        collate = DataCollatorWithPadding(tokenizer)

    def collator(rows: list[dict[str, Any]]) -> Any:
        tokens = sum(len(row["input_ids"]) for row in rows)
        collated = collate(rows)
        collated["tokens"] = tokens
        if fills and side == TUNED and not on_cpu:
            # All its rows are full: without a mask attention is faster and nothing waits for it.
            del collated["attention_mask"]
        return collated

    return collator


def _dense(batch: Batch) -> dict[str, torch.Tensor]:
    """Return a batch with labels at every position, as models of ``transformers`` take it."""
    found = {"input_ids": batch.input_ids_BL}
    if batch.attention_mask_BL is not None:
        found["attention_mask"] = batch.attention_mask_BL
    (target,) = batch.targets.values()
    if batch.token_type_ids_BL is not None:
        return found | {"token_type_ids": batch.token_type_ids_BL, "labels": target.labels_N}
    labels = torch.full((batch.input_ids_BL.numel(),), -100)
    labels[target.positions_N] = target.labels_N
    return found | {"labels": labels.view_as(batch.input_ids_BL)}


@torch.no_grad()
def _loss(model: Any, batch: dict[str, torch.Tensor]) -> float:
    model.eval()
    loss = float(model(**batch).loss)
    model.train()
    return loss
