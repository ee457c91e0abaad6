"""The other side of the benchmark: Hugging Face's Trainer on the same work."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from bertexp.bench.config import BenchConfig
from bertexp.bench.work import (
    NOTEBOOK_LENGTH,
    PADDED,
    TUNED,
    Clock,
    FullLength,
    Measured,
    first_batch,
    longest,
    prepare_work,
    read_model,
)
from bertexp.data.tokens.exporting import to_transformers
from bertexp.evaluation.bank import evaluate
from bertexp.experiment.prepare import Data
from bertexp.objectives.batch import Batch
from bertexp.objectives.learner import Learner, count_parameters
from bertexp.training.machine import keep_freed_memory, peak_memory
from bertexp.training.setup import DEFAULT_THREADS, choose_device, mixed_precision

PAIRS_AT_ONCE = 1000


class _Watch(TrainerCallback):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._clock.tick(time.perf_counter)


class _Counting(Trainer):
    """Counts each batch's tokens without padding, which its collator adds to the batch."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.tokens: list[int] = []

    def training_step(self, model: Any, inputs: Any, *others: Any) -> torch.Tensor:
        self.tokens.append(inputs.pop("tokens"))
        return super().training_step(model, inputs, *others)


def measure_trainer(
    config: BenchConfig, folder: Path, side: str, steps: int, loss_steps: int
) -> Measured:
    data = prepare_work(config)
    on_cpu = choose_device(config.hardware.device).type == "cpu"
    torch.set_num_threads(config.hardware.threads or DEFAULT_THREADS)
    model: Any = read_model(data, folder)
    if side == TUNED and on_cpu:
        # Its products are faster than fused attention; and freed memory is kept as in bertexp.
        model.set_attn_implementation("eager")
        keep_freed_memory()
    first_loss = _loss(model, _dense(first_batch(config, data)))
    total = loss_steps or steps
    clock = Clock(config.bench.warmup, total)
    arguments = _arguments(config, folder, side, on_cpu, total)
    # Both sides warm up for the same number of steps.
    arguments.warmup_steps = int(config.scheduler.warmup * longest(steps, loss_steps))
    trainer = _Counting(
        model=model,
        args=arguments,
        train_dataset=_rows(data),
        data_collator=_collator(data, config, side),
        callbacks=[_Watch(clock)],
    )
    began = time.perf_counter()
    trainer.train()
    peak = peak_memory()
    losses = []
    if loss_steps:
        metrics = evaluate(Learner(model, data.task.objectives), data.bank, model.device)
        losses.append((total, clock.ended - began, metrics["eval/loss"]))
    return Measured(
        parameters=count_parameters(model),
        first_loss=first_loss,
        tokens=sum(trainer.tokens[config.bench.warmup : total]),
        seconds=clock.seconds,
        peak_bytes=peak,
        losses=losses,
        parts={},
    )


def _arguments(
    config: BenchConfig, folder: Path, side: str, on_cpu: bool, steps: int
) -> TrainingArguments:
    optimizer, scheduler = config.optimizer, config.scheduler
    assert optimizer.lr is not None
    precision = mixed_precision(config.hardware.precision, on_cpu)
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
        torch_compile=config.hardware.compile is True,
        dataloader_drop_last=True,
        dataloader_pin_memory=not on_cpu,
        # On a GPU the next batch is made meanwhile.
        dataloader_num_workers=4 if side == TUNED and not on_cpu else 0,
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


def _collator(data: Data, config: BenchConfig, side: str) -> Any:
    """Return the collator that Trainer's users take; it also counts each batch's real tokens."""
    length = NOTEBOOK_LENGTH if side == PADDED else config.task.max_length
    tokenizer = to_transformers(data.tokenizer, length)
    collate: Any
    if isinstance(data.examples, FullLength):
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
