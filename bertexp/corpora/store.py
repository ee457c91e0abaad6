"""The prepared corpus on disk: documents in Arrow files, parted into two splits."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bertexp.corpora import CORPORA, Document, ReadDocuments
from bertexp.corpora.config import DatasetConfig
from bertexp.corpora.shard import TALLY, file_name, write_shard
from bertexp.shards import cached_in_shards
from bertexp.validation import UserError

VERSION = 2
SPLITS = ("train", "validation")
# The side of a training document that is also in the corpus's own validation split.
LEFT_OUT = len(SPLITS)
SIDES = "sides.npy"
SUMMARY = "summary.json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitSize:
    """How much text a split holds."""

    documents: int
    paragraphs: int
    characters: int


class CorpusStore:
    """A prepared corpus, read from disk a batch of documents at a time.

    Attributes:
        folder: where it lies.
        fingerprint: a hash of all paragraphs, their order and their split.
        sizes: the size of each split, by its name.
        rows: the documents of each file, those left out included.
    """

    def __init__(self, folder: Path) -> None:
        summary = json.loads((folder / SUMMARY).read_text())
        self.folder = folder
        self.fingerprint: str = summary["fingerprint"]
        self.sizes = {split: SplitSize(**size) for split, size in summary["sizes"].items()}
        self.rows: list[int] = summary["rows"]

    def documents(self, split: str, files: Iterable[int] | None = None) -> Iterator[Document]:
        """Yield the documents of ``"train"`` or ``"validation"`` in the corpus's order.

        Args:
            split: which documents.
            files: numbers of the files to read; None for all.
        """
        sides = np.load(self.folder / SIDES, mmap_mode="r")
        for number in range(len(self.rows)) if files is None else files:
            start = sum(self.rows[:number])
            with pa.memory_map(str(self.folder / file_name(number))) as file:
                reader = pa.ipc.open_file(file)
                for batch in map(reader.get_batch, range(reader.num_record_batches)):
                    chosen = sides[start : start + batch.num_rows] == SPLITS.index(split)
                    start += batch.num_rows
                    names, paragraphs = batch.filter(pa.array(chosen)).columns
                    rows = zip(names.to_pylist(), paragraphs.to_pylist(), strict=True)
                    yield from (Document(name, texts, split) for name, texts in rows)


def prepare(config: DatasetConfig, processes: int = 1) -> CorpusStore:
    """Return the corpus that ``config`` describes, building it if it is not in the cache.

    Where the corpus does not come in splits, ``validation_fraction`` of the documents are
    set apart by a hash of their text: the choice depends neither on their order nor on a
    seed, and equal documents are on one side. ``max_documents`` keeps that many from the
    beginning, of each split where the corpus comes in splits.

    Args:
        config: ``dataset.*``.
        processes: how many read it, if it has parts that can be read by themselves.

    Raises:
        UserError: the corpus cannot be read, or has not two different documents.
    """
    corpus = CORPORA[config.name](config)
    limit = config.max_documents
    key = {
        "version": VERSION,
        "name": config.name,
        "content": corpus.fingerprint(),
        "validation_fraction": config.validation_fraction,
        "max_documents": limit,
    }

    def shards() -> Sequence[ReadDocuments]:
        _log.info("Preparing the corpus '%s' (once, then it is read from the cache)", config.name)
        # Which documents are the first can only be said by reading one after the other.
        return corpus.shards() if limit is None else [corpus.documents]

    build = partial(write_shard, limit=limit)
    merge = partial(_merge, config=config)
    return CorpusStore(cached_in_shards("corpus", key, shards, build, merge, processes))


def _merge(folders: list[Path], folder: Path, config: DatasetConfig) -> None:
    """Bring the shards' files together, and part the documents."""
    tallies = [np.load(shard / TALLY) for shard in folders]
    known = np.concatenate([tally["every"] for tally in tallies])
    rows = np.concatenate([tally["rows"] for tally in tallies])
    sides = _part(known, config)
    counts = [len(tally["rows"]) for tally in tallies]
    shards = zip(folders, counts, strict=True)
    files = (shard / file_name(number) for shard, count in shards for number in range(count))
    for number, file in enumerate(files):
        _take(file, folder / file_name(number))
    np.save(folder / SIDES, sides)
    summary = _summary(known, sides) | {"rows": rows.tolist()}
    (folder / SUMMARY).write_text(json.dumps(summary, indent=1))


def _take(file: Path, new: Path) -> None:
    try:
        os.link(file, new)
    except OSError:  # not every file system has links
        shutil.copyfile(file, new)


def _part(known: NDArray[np.void], config: DatasetConfig) -> NDArray[np.uint8]:
    """Return the number of each document's split, or ``LEFT_OUT``."""
    hashes, own = known["hash"], known["own"]
    if not len(hashes):
        raise UserError(f"dataset={config.name}: the corpus has no text.")
    distinct = np.unique(hashes)
    if len(distinct) < 2:
        raise UserError(
            f"dataset={config.name}: the corpus has only one document, and training and"
            " validation need one each; part a text file into documents by blank lines"
            " (two in a row where lines are wrapped), or name a second file."
        )
    if own.any():
        sides: NDArray[np.uint8] = np.where(np.isin(hashes, hashes[own]), LEFT_OUT, 0)
        sides[own] = 1
        if not (sides == 0).any():
            raise UserError(f"dataset={config.name}: all training text is in validation too.")
        return sides.astype(np.uint8)
    count = max(1, round(config.validation_fraction * len(distinct)))
    return (hashes <= distinct[min(count, len(distinct) - 1) - 1]).astype(np.uint8)


def _summary(known: NDArray[np.void], sides: NDArray[np.uint8]) -> dict[str, object]:
    """Return the sizes of the splits and the hash of the content, as ``CorpusStore`` reads them."""
    known, sides = known[sides != LEFT_OUT], sides[sides != LEFT_OUT]
    content = hashlib.blake2b(known["hash"].astype("<u8").tobytes(), digest_size=8)
    content.update((sides == 1).tobytes())
    sizes = {}
    for number, split in enumerate(SPLITS):
        own = known[sides == number]
        size = SplitSize(len(own), int(own["paragraphs"].sum()), int(own["characters"].sum()))
        sizes[split] = asdict(size)
    return {"fingerprint": content.hexdigest(), "sizes": sizes}
