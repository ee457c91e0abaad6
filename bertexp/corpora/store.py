"""The prepared corpus on disk: documents in Arrow files, parted into two splits."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bertexp.cache import fingerprint
from bertexp.corpora import CORPORA, Document, ReadDocuments
from bertexp.corpora.config import DatasetConfig
from bertexp.shards import cached_in_shards
from bertexp.validation import UserError

VERSION = 2
SPLITS = ("train", "validation")
# The side of a training document that is also in the corpus's own validation split.
LEFT_OUT = len(SPLITS)
BATCH_CHARACTERS = 1 << 20
FILE_CHARACTERS = 1 << 24
SIDES = "sides.npy"
SUMMARY = "summary.json"
TALLY = "tally.npz"

_SCHEMA = pa.schema([("name", pa.large_string()), ("paragraphs", pa.large_list(pa.large_string()))])
# What is known of a document: 25 bytes, so millions of them fit.
_KNOWN = np.dtype(
    [("hash", np.uint64), ("paragraphs", np.int64), ("characters", np.int64), ("own", np.bool_)]
)
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
            with pa.memory_map(str(self.folder / _file_name(number))) as file:
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

    build = partial(_write, limit=limit)
    merge = partial(_merge, config=config)
    return CorpusStore(cached_in_shards("corpus", key, shards, build, merge, processes))


def _cleaned(documents: Iterable[Document]) -> Iterator[Document]:
    """Strip paragraphs and leave out what is empty then."""
    for document in documents:
        stripped = [paragraph.strip() for paragraph in document.paragraphs]
        if paragraphs := [paragraph for paragraph in stripped if paragraph]:
            yield Document(document.name, paragraphs, document.split)


def _first(documents: Iterator[Document], limit: int | None) -> Iterator[Document]:
    """Keep the first ``limit`` documents of each split; a corpus's own validation comes first."""
    if limit is None:
        yield from documents
        return
    kept = 0
    for document in documents:
        if document.split == "validation":
            kept += 1
            if kept <= limit:
                yield document
        else:
            yield document
            yield from islice(documents, limit - 1)
            return


def _file_name(number: int) -> str:
    return f"{number:05}.arrow"


def _write(read: ReadDocuments, folder: Path, limit: int | None) -> None:
    """Write a shard: its documents in Arrow files, and what there is to know about each."""
    tally: list[NDArray[np.void]] = []
    rows: list[int] = []
    with contextlib.ExitStack() as stack:
        room = 0
        for batch in _batches(_first(_cleaned(read()), limit)):
            if room <= 0:
                stack.close()
                file = stack.enter_context(pa.OSFile(str(folder / _file_name(len(rows))), "wb"))
                writer = stack.enter_context(pa.ipc.new_file(file, _SCHEMA))
                room = FILE_CHARACTERS
                rows.append(0)
            columns = ([d.name for d in batch], [d.paragraphs for d in batch])
            arrays = [pa.array(*pair) for pair in zip(columns, _SCHEMA.types, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=_SCHEMA))
            tally.append(np.array([_known(document) for document in batch], dtype=_KNOWN))
            room -= int(tally[-1]["characters"].sum())
            rows[-1] += len(batch)
    every = np.concatenate([np.empty(0, _KNOWN), *tally])
    np.savez(folder / TALLY, every=every, rows=np.array(rows, dtype=np.int64))


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += sum(map(len, document.paragraphs))
        if characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _known(document: Document) -> tuple[int, int, int, bool]:
    paragraphs = document.paragraphs
    characters, own = sum(map(len, paragraphs)), document.split == "validation"
    return int(fingerprint(paragraphs), 16), len(paragraphs), characters, own


def _merge(folders: list[Path], folder: Path, config: DatasetConfig) -> None:
    """Bring the shards' files together, and part the documents."""
    tallies = [np.load(shard / TALLY) for shard in folders]
    known = np.concatenate([tally["every"] for tally in tallies])
    rows = np.concatenate([tally["rows"] for tally in tallies])
    sides = _part(known, config)
    counts = [len(tally["rows"]) for tally in tallies]
    shards = zip(folders, counts, strict=True)
    files = (shard / _file_name(number) for shard, count in shards for number in range(count))
    for number, file in enumerate(files):
        _take(file, folder / _file_name(number))
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
