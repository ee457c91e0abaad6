"""The cost of drawing masks and of preparing a corpus, compared with the libraries' ways."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bertexp import draws
from bertexp.bench.config import BenchConfig
from bertexp.bench.stopwatch import milliseconds
from bertexp.bench.work import must_be_blocks
from bertexp.console import show, table
from bertexp.data.config import DatasetConfig
from bertexp.data.corpora.corpus import SPLITS, CorpusStore, prepare
from bertexp.data.tokens.roles import to_transformers
from bertexp.data.tokens.store import prepare_tokens
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.experiment.prepare import Data, preparation_processes, prepare_data, prepare_tokenizer
from bertexp.families.build import build_model
from bertexp.masking import STRATEGIES
from bertexp.objectives.examples import MaskedExamples
from bertexp.objectives.learner import Learner
from bertexp.objectives.task import Task
from bertexp.training.machine import measure_seconds_per_token, peak_memory, peak_of_children
from bertexp.training.setup import build_accelerator
from bertexp.validation import UserError

# Batches in a measurement: enough to time, few enough to alternate often.
BATCHES = 20
COLLATOR = "DataCollatorForLanguageModeling"
# Paragraphs in a document of the text to prepare.
PARAGRAPHS = 8
# Texts in a call of ``encode_batch``: all of 100 MB of text in one call would take gigabytes.
TEXTS_AT_ONCE = 8192

Result = TypeVar("Result")


def measure_masking(config: BenchConfig) -> dict[str, Any]:
    """Measure all strategies in turn, on the configured task, batch size and model.

    Returns:
        Medians in milliseconds: ``mask_ms``, of masking a batch of token ids with each strategy;
        ``batch_ms``, from stored examples to a masked batch of tensors, with each strategy and the
        collator; ``step_ms``, of forward and backward on a batch of ``batch_size`` sequences of
        full length.
    """
    must_be_blocks(config)
    data = prepare_data(config)
    if not isinstance(data.examples, MaskedExamples):
        raise UserError(f"bench: task={config.task.name} masks nothing; use task=mlm.")
    full = np.flatnonzero(data.examples.lengths(0) == config.task.max_length)
    size = config.trainer.batch_size
    parts = np.split(full, range(size, len(full), size))[: len(full) // size][:BATCHES]
    if not parts:
        raise UserError(
            f"trainer.batch_size={size}: the corpus has only {len(full)} sequences of "
            f"{config.task.max_length} tokens."
        )
    jobs: dict[str, dict[str, Callable[[], None]]] = {"mask_ms": {}, "batch_ms": {}}
    for name in STRATEGIES.names():
        jobs["mask_ms"][name], jobs["batch_ms"][name] = _jobs(config, data, name, parts)
    jobs["batch_ms"][COLLATOR] = _collate(data, parts, config)
    times: dict[str, dict[str, list[float]]] = {what: {n: [] for n in jobs[what]} for what in jobs}
    for _ in range(config.bench.repeats):
        for what, own in jobs.items():
            for name, job in own.items():
                times[what][name].append(milliseconds(job) / len(parts))
    cost: dict[str, Any] = {"batch_size": size}
    for what, own_times in times.items():
        cost[what] = {name: float(np.median(each)) for name, each in own_times.items()}
    cost["step_ms"] = _step_ms(config, data, parts[0])
    _show_masking(cost, config.model.name)
    return cost


def _show_masking(cost: dict[str, Any], model: str) -> None:
    rows = []
    for name, batch_ms in cost["batch_ms"].items():
        mask, share = "", ""
        if (mask_ms := cost["mask_ms"].get(name)) is not None:
            mask, share = f"{mask_ms:.2f} ms", f"{mask_ms / cost['step_ms']:.1%}"
        speed = f"{cost['batch_size'] / batch_ms * 1e3:,.0f}"
        rows.append((name, mask, share, f"{batch_ms:.2f} ms", speed))
    show(table("masking", "mask", "of a step", "whole batch", "sequences/s", rows=rows))
    print(f"A step of {model} (forward and backward) takes {cost['step_ms']:.1f} ms.")


def _jobs(
    config: BenchConfig, data: Data, strategy: str, parts: list[np.ndarray]
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return a function that masks all batches, and one that makes them from stored examples."""
    masking = replace(config.masking, strategy=strategy)
    task = Task.of(config.task, data.tokenizer, masking, config.seed)
    examples = task.examples(data.tokens["train"])
    assert isinstance(examples, MaskedExamples)
    batches = [examples.unmasked(part) for part in parts]

    def mask() -> None:
        for ids_BL, part in zip(batches, parts, strict=True):
            examples.masker.mask(ids_BL, part, 0)

    def batch() -> None:
        for part in parts:
            examples.batch(0, part)

    return mask, batch


def _collate(data: Data, parts: list[np.ndarray], config: BenchConfig) -> Callable[[], None]:
    from transformers import DataCollatorForLanguageModeling

    assert isinstance(data.examples, MaskedExamples)
    collator = DataCollatorForLanguageModeling(
        to_transformers(data.tokenizer, config.task.max_length),
        mlm_probability=config.masking.prob,
    )
    batches = [data.examples.unmasked(part).tolist() for part in parts]

    def job() -> None:
        for rows in batches:
            collator([{"input_ids": row} for row in rows])

    return job


def _step_ms(config: BenchConfig, data: Data, part: np.ndarray) -> float:
    accelerator = build_accelerator(config.hardware, [])
    length = config.task.max_length
    model = build_model(
        config.family, config.model, data.task.heads, data.tokenizer, length, config.seed
    )
    learner = Learner(model, data.task.objectives).to(accelerator.device)
    batches = [data.examples.batch(0, part)]
    seconds = measure_seconds_per_token(learner, accelerator, [batches], data.task.weights)
    return seconds * batches[0].tokens * 1e3


def measure_preparation(config: BenchConfig) -> dict[str, Any]:
    """Prepare a text with one process and with several, and only encode it, in turn.

    The text consists of the configured corpus's paragraphs in random order, repeated as needed;
    imports are not timed.

    Returns:
        Medians over fresh processes, by the number of processes: ``seconds`` to read, tokenize and
        store ``megabytes`` of text; ``peak_megabytes``, the peak memory of the main process and of
        the largest other one (0 on Windows); ``encode_batch_seconds`` to encode the same
        paragraphs on all cores, without reading them; ``second_start_seconds`` to find the result
        in the cache.
    """
    bench = config.bench
    tokenizer = prepare_tokenizer(config)
    counts = sorted({1, preparation_processes(config)})
    first: dict[int, list[tuple[float, float, float]]] = {count: [] for count in counts}
    again, encoding = list[float](), list[float]()
    with tempfile.TemporaryDirectory(prefix="bertexp-bench-") as name:
        folder = Path(name)
        path = folder / "text.txt"
        size = _write_text(prepare(config.dataset), path, bench.megabytes)
        dataset = replace(config.dataset, name="text", files=[str(path)], format="plain")
        dataset = replace(dataset, max_documents=None, streaming=False)
        for repeat in range(bench.repeats):
            encoding.append(_fresh(_encode_batch, path, tokenizer))
            for count in counts:
                arguments = (folder / f"{repeat}-{count}", dataset, tokenizer, count)
                first[count].append(_fresh(_prepare, *arguments))
                again.append(_fresh(_prepare, *arguments)[0])
                shutil.rmtree(arguments[0])
    cost = {
        "megabytes": size,
        "seconds": {n: float(np.median(np.array(runs)[:, 0])) for n, runs in first.items()},
        "encode_batch_seconds": float(np.median(encoding)),
        "second_start_seconds": float(np.median(again)),
        "peak_megabytes": {n: np.array(runs)[:, 1:].max(0).tolist() for n, runs in first.items()},
    }
    _show_preparation(cost)
    return cost


def _show_preparation(cost: dict[str, Any]) -> None:
    alone = cost["encode_batch_seconds"]
    rows = [("encode_batch, all cores", f"{alone:.1f}", "", "")]
    for count, seconds in cost["seconds"].items():
        name = f"prepared by {count} processes" if count > 1 else "prepared by one process"
        memory = " + ".join(f"{megabytes:,.0f} MB" for megabytes in cost["peak_megabytes"][count])
        rows.append((name, f"{seconds:.1f}", f"{seconds / alone:.2f}x", memory))
    rows.append(("the second start", f"{cost['second_start_seconds']:.2f}", "", ""))
    columns = (f"{cost['megabytes']:.0f} MB of text", "seconds", "of encode_batch", "peak memory")
    show(table(*columns, rows=rows))


def _write_text(corpus: CorpusStore, path: Path, megabytes: float) -> float:
    """Write documents of ``PARAGRAPHS`` paragraphs each; returns their size in megabytes."""
    texts = [text for _, text in corpus.paragraphs(*SPLITS)]
    state = draws.key("bench", 0, 0)
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < megabytes * 1e6:
            state = draws.mix(state)
            order = draws.integers(draws.combine(state, np.arange(PARAGRAPHS)), len(texts))
            file.write("\n".join(texts[number] for number in order) + "\n\n")
    return path.stat().st_size / 1e6


def _fresh(function: Callable[..., Result], *arguments: object) -> Result:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _prepare(
    cache: Path, dataset: DatasetConfig, tokenizer: Tokenizer, processes: int
) -> tuple[float, float, float]:
    """Return the seconds, and the peak megabytes of the main process and of the largest other."""
    os.environ["BERTEXP_CACHE"] = str(cache)
    # Otherwise a single process would tokenize on all cores.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    began = time.perf_counter()
    prepare_tokens(prepare(dataset, processes), tokenizer, None, dataset.language, processes)
    seconds = time.perf_counter() - began
    # Not measured on Windows.
    return seconds, peak_memory() / 1e6, (peak_of_children() or 0) / 1e6


def _encode_batch(path: Path, tokenizer: Tokenizer) -> float:
    """Return the seconds for all paragraphs."""
    with path.open(encoding="utf-8") as file:
        texts = [line for line in file if line.strip()]
    began = time.perf_counter()
    for first in range(0, len(texts), TEXTS_AT_ONCE):
        tokenizer.backend.encode_batch(texts[first : first + TEXTS_AT_ONCE])
    return time.perf_counter() - began
