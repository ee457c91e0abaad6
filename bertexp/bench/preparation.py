"""What preparing a corpus costs, beside ``encode_batch`` of the ``tokenizers`` library."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from bertexp import draws
from bertexp.config import Config
from bertexp.data.config import DatasetConfig
from bertexp.data.corpora.corpus import SPLITS, CorpusStore, prepare
from bertexp.data.tokens.store import prepare_tokens
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.experiment.prepare import prepare_tokenizer
from bertexp.training.machine import peak_memory, peak_of_children

# Paragraphs of a document of the text that is prepared.
PARAGRAPHS = 8
# Texts that go to ``encode_batch`` at once: in one piece 100 MB of text would take gigabytes.
TEXTS_AT_ONCE = 8192

Result = TypeVar("Result")


@dataclass(frozen=True)
class PreparationCost:
    """Medians over the repeats, each in a fresh process; imports are not counted.

    Attributes:
        megabytes: of text, 10**6 bytes each.
        seconds: to read, tokenize and store it, by the number of processes.
        encode_batch_seconds: for ``encode_batch`` of the same paragraphs, on all cores, read
            before.
        second_start_seconds: until the same preparation is found in the cache.
        peak_megabytes: the most memory that the main process and the largest other one held,
            by the number of processes; of the other 0 on Windows.
    """

    megabytes: float
    seconds: dict[int, float]
    encode_batch_seconds: float
    second_start_seconds: float
    peak_megabytes: dict[int, tuple[float, float]]


def measure_preparation(
    config: Config, megabytes: float, processes: Sequence[int], repeats: int
) -> PreparationCost:
    """Prepare a text made of the configured corpus's paragraphs, taking turns.

    Args:
        config: its corpus gives the paragraphs, in a random order as often as it takes; its
            tokenizer and ``dataset.language`` are used.
        megabytes: of text.
        processes: numbers of processes to measure, as in (1, 2).
        repeats: times that everything is measured.
    """
    tokenizer = prepare_tokenizer(config)
    first: dict[int, list[_Preparation]] = {count: [] for count in processes}
    again, encoding = list[float](), list[float]()
    with tempfile.TemporaryDirectory(prefix="bertexp-bench-") as name:
        folder = Path(name)
        path = folder / "text.txt"
        size = _write_text(prepare(config.dataset), path, megabytes)
        dataset = replace(config.dataset, name="text", files=[str(path)], format="plain")
        dataset = replace(dataset, max_documents=None, streaming=False)
        for repeat in range(repeats):
            encoding.append(_fresh(_encode_batch, path, tokenizer))
            for count in processes:
                arguments = (folder / f"{repeat}-{count}", dataset, tokenizer, count)
                first[count].append(_fresh(_prepare, *arguments))
                again.append(_fresh(_prepare, *arguments).seconds)
                shutil.rmtree(arguments[0])
    return PreparationCost(
        megabytes=size,
        seconds={n: float(np.median([run.seconds for run in runs])) for n, runs in first.items()},
        encode_batch_seconds=float(np.median(encoding)),
        second_start_seconds=float(np.median(again)),
        peak_megabytes={
            n: (max(run.main for run in runs), max(run.largest for run in runs))
            for n, runs in first.items()
        },
    )


def _write_text(corpus: CorpusStore, path: Path, megabytes: float) -> float:
    """Write documents of ``PARAGRAPHS`` paragraphs each; returns their size in megabytes."""
    texts = [text for split in SPLITS for doc in corpus.documents(split) for text in doc.paragraphs]
    state = draws.key("bench", 0, 0)
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < megabytes * 1e6:
            state = draws.mix(state)
            order = draws.integers(draws.combine(state, np.arange(PARAGRAPHS)), len(texts))
            file.write("\n".join(texts[number] for number in order) + "\n\n")
    return path.stat().st_size / 1e6


def _fresh(function: Callable[..., Result], *arguments: object) -> Result:
    """Call a function in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


@dataclass(frozen=True)
class _Preparation:
    """Seconds, and the most memory of the main process and of the largest other, in MB."""

    seconds: float
    main: float
    largest: float


def _prepare(
    cache: Path, dataset: DatasetConfig, tokenizer: Tokenizer, processes: int
) -> _Preparation:
    os.environ["BERTEXP_CACHE"] = str(cache)
    # Otherwise one process would tokenize on all cores.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    clock = time.perf_counter()
    prepare_tokens(prepare(dataset, processes), tokenizer, None, dataset.language, processes)
    seconds = time.perf_counter() - clock
    # Not measured on Windows.
    largest = peak_of_children() or 0
    return _Preparation(seconds, peak_memory() / 1e6, largest / 1e6)


def _encode_batch(path: Path, tokenizer: Tokenizer) -> float:
    """Return the seconds for all paragraphs."""
    with path.open(encoding="utf-8") as file:
        texts = [line for line in file if line.strip()]
    clock = time.perf_counter()
    for first in range(0, len(texts), TEXTS_AT_ONCE):
        tokenizer.backend.encode_batch(texts[first : first + TEXTS_AT_ONCE])
    return time.perf_counter() - clock
