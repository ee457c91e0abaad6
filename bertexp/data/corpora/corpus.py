"""The prepared corpus on disk: documents in Arrow files, and the split of each."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bertexp.arrays import save_array
from bertexp.data.config import DatasetConfig
from bertexp.data.corpora import CORPORA, Document, ReadDocuments
from bertexp.data.corpora.shard import TALLY, characters_of, file_name, write_shard
from bertexp.data.parallel import cached_in_shards
from bertexp.validation import UserError

VERSION = 3
SPLITS = ("train", "validation")
# Marks a training document that is also in the corpus's own validation split.
LEFT_OUT = len(SPLITS)
# Fewest characters per part, where the only document is cut into parts.
SHORTEST_PART = 200
SIDES = "sides.npy"
SUMMARY = "summary.json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitSize:
    documents: int
    paragraphs: int
    characters: int


class CorpusStore:
    """A prepared corpus, read from disk a batch of documents at a time.

    Attributes:
        fingerprint: a hash of all paragraphs, their order and their split.
        rows: documents per file, including those left out.
        source: the format they were found in, see ``Corpus.described``.
        parted: whether they are parts of one document.
    """

    def __init__(self, folder: Path) -> None:
        summary = json.loads((folder / SUMMARY).read_text())
        self.folder = folder
        self.fingerprint: str = summary["fingerprint"]
        self.sizes = {split: SplitSize(**size) for split, size in summary["sizes"].items()}
        self.rows: list[int] = summary["rows"]
        self.source: str = summary["source"]
        self.parted: bool = summary["parted"]

    def documents(self, split: str, files: Iterable[int] | None = None) -> Iterator[Document]:
        """Yield a split's documents in order, from the given files (by number) or from all."""
        sides = np.load(self.folder / SIDES, mmap_mode="r")
        for number in range(len(self.rows)) if files is None else files:
            own = sides[sum(self.rows[:number]) :][: self.rows[number]] == SPLITS.index(split)
            yield from _read(self.folder / file_name(number), own, split)

    def paragraphs(self, *splits: str, most: float = math.inf) -> Iterator[tuple[str, str]]:
        """Yield the document's name and the text of each paragraph of some splits in turn.

        The last document is the one with which they have over ``most`` characters.
        """
        for document in chain.from_iterable(map(self.documents, splits)):
            yield from ((document.name, text) for text in document.paragraphs)
            most -= characters_of(document)
            if most < 0:
                return


def _read(
    path: Path, chosen: NDArray[np.bool_] | None = None, split: str | None = None
) -> Iterator[Document]:
    start = 0
    with pa.memory_map(str(path)) as file:
        reader = pa.ipc.open_file(file)
        for batch in map(reader.get_batch, range(reader.num_record_batches)):
            if chosen is not None:
                mask = pa.array(chosen[start : start + batch.num_rows])
                start += batch.num_rows
                batch = batch.filter(mask)
            names, paragraphs = batch.columns
            rows = zip(names.to_pylist(), paragraphs.to_pylist(), strict=True)
            yield from (Document(name, texts, split) for name, texts in rows)


def prepare(config: DatasetConfig, processes: int = 1) -> CorpusStore:
    """Return the corpus that ``config`` describes, building it if it is not in the cache.

    If the corpus does not come in splits, ``validation_fraction`` of the documents are set apart
    by a hash of their text: the choice depends neither on their order nor on a seed, and equal
    documents are in the same split. ``max_documents`` limits the corpus, or each of its own
    splits, to that many documents from the start. A corpus of one document, such as a book, is cut
    into parts of consecutive paragraphs, which become its documents.

    Raises:
        UserError: the corpus cannot be read, or lacks two different documents or paragraphs.
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
        # To find the first documents they have to be read in order.
        return corpus.shards() if limit is None else [corpus.documents]

    build = partial(write_shard, limit=limit)

    def merge(folders: list[Path], folder: Path) -> None:
        _merge(folders, folder, config, corpus.described())

    store = CorpusStore(cached_in_shards("corpus", key, shards, build, merge, processes))
    _warn_of_few_documents(store, config)
    return store


def _warn_of_few_documents(store: CorpusStore, config: DatasetConfig) -> None:
    """Warn if validation has far more text than configured, since documents are not cut."""
    train, validation = (store.sizes[split] for split in SPLITS)
    share = validation.characters / (train.characters + validation.characters)
    if config.hub.validation is None and share > max(0.25, 3 * config.validation_fraction):
        _log.warning(
            "dataset=%s: %.0f%% of the text is for validation, not "
            "dataset.validation_fraction=%g, as there are only %d documents and none is cut%s.",
            config.name,
            100 * share,
            config.validation_fraction,
            train.documents + validation.documents,
            "; dataset.format decides how files are split into documents"
            if config.name == "text"
            else "",
        )


def _merge(folders: list[Path], folder: Path, config: DatasetConfig, source: str) -> None:
    known, rows = _tallied(folders)
    is_one = len(np.unique(known["hash"])) == 1 and not config.streaming
    with tempfile.TemporaryDirectory(dir=folder) as parts:
        if is_one:
            _log.info("The corpus is one document; parts of it are for validation.")
            files = (shard / file_name(0) for shard in folders)
            document = next(_read(next(file for file in files if file.exists())))
            write_shard(partial(_parts, document, config.validation_fraction), Path(parts), None)
            folders = [Path(parts)]
            known, rows = _tallied(folders)
        sides = _assign(known, config)
        files = (file for shard in folders for file in sorted(shard.glob("*.arrow")))
        for number, file in enumerate(files):
            _link(file, folder / file_name(number))
    save_array(folder / SIDES, sides)
    found = {"rows": rows.tolist(), "source": source, "parted": is_one}
    (folder / SUMMARY).write_text(json.dumps(_summary(known, sides) | found, indent=1))


def _tallied(folders: list[Path]) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    tallies = [np.load(shard / TALLY) for shard in folders]
    return (
        np.concatenate([tally["every"] for tally in tallies]),
        np.concatenate([tally["rows"] for tally in tallies]),
    )


def _parts(document: Document, validation_fraction: float) -> Iterator[Document]:
    """Cut a document into parts, small enough that about two of them are for validation."""
    texts = document.paragraphs
    size = max(SHORTEST_PART, int(sum(map(len, texts)) * validation_fraction / 2))
    part: list[str] = []
    number, left = 1, size
    for text in _pieces(texts[0], size) if len(texts) == 1 else texts:
        part.append(text)
        left -= len(text)
        if left <= 0:
            yield Document(f"{document.name}, part {number}", part)
            part, number, left = [], number + 1, size
    yield Document(f"{document.name}, part {number}", part)


def _pieces(text: str, size: int) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = text.find(" ", start + size) % (len(text) + 1)
        yield text[start:end]
        start = end


def _link(file: Path, new: Path) -> None:
    try:
        os.link(file, new)
    except OSError:  # not every file system supports hard links
        shutil.copyfile(file, new)


def _assign(known: NDArray[np.void], config: DatasetConfig) -> NDArray[np.uint8]:
    """Return the number of each document's split, or ``LEFT_OUT``."""
    hashes, own = known["hash"], known["own"]
    if not len(hashes):
        raise UserError(f"dataset={config.name}: the corpus has no text.")
    distinct = np.unique(hashes)
    if len(distinct) < 2:
        raise UserError(
            f"dataset={config.name}: the corpus has only one document, and training and"
            " validation need one each; separate the documents of a text file by blank lines"
            " (two in a row where lines are wrapped), or by lines with dataset.format=lines."
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
    known, sides = known[sides != LEFT_OUT], sides[sides != LEFT_OUT]
    content = hashlib.blake2b(known["hash"].astype("<u8").tobytes(), digest_size=8)
    content.update((sides == 1).tobytes())
    sizes = {}
    for number, split in enumerate(SPLITS):
        own = known[sides == number]
        size = SplitSize(len(own), int(own["paragraphs"].sum()), int(own["characters"].sum()))
        sizes[split] = asdict(size)
    return {"fingerprint": content.hexdigest(), "sizes": sizes}
