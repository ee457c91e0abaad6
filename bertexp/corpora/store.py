"""The prepared corpus on disk: documents in one Arrow file, parted into two splits."""

from __future__ import annotations

import hashlib
import json
import logging
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bertexp.cache import cached, fingerprint
from bertexp.corpora import CORPORA, Document
from bertexp.corpora.config import DatasetConfig
from bertexp.validation import UserError

VERSION = 1
SPLITS = ("train", "validation")
BATCH_CHARACTERS = 1 << 22
DOCUMENTS = "documents.arrow"
IN_VALIDATION = "in_validation.npy"
SUMMARY = "summary.json"

_SCHEMA = pa.schema([("name", pa.large_string()), ("paragraphs", pa.large_list(pa.large_string()))])
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
    """

    def __init__(self, folder: Path) -> None:
        summary = json.loads((folder / SUMMARY).read_text())
        self.folder = folder
        self.fingerprint: str = summary["fingerprint"]
        self.sizes = {split: SplitSize(**size) for split, size in summary["sizes"].items()}

    def documents(self, split: str) -> Iterator[Document]:
        """Yield the documents of ``"train"`` or ``"validation"`` in the corpus's order."""
        assert split in SPLITS, split
        chosen = np.load(self.folder / IN_VALIDATION) == (split == "validation")
        start = 0
        with pa.memory_map(str(self.folder / DOCUMENTS)) as file:
            reader = pa.ipc.open_file(file)
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                mask = pa.array(chosen[start : start + batch.num_rows])
                start += batch.num_rows
                for row in batch.filter(mask).to_pylist():
                    yield Document(row["name"], row["paragraphs"], split)


def prepare(config: DatasetConfig) -> CorpusStore:
    """Return the corpus that ``config`` describes, building it if it is not in the cache.

    Where the corpus does not come in splits, ``validation_fraction`` of the documents are
    set apart by a hash of their text: the choice depends neither on their order nor on a
    seed, and equal documents are on one side. ``max_documents`` keeps that many from the
    beginning, of each split where the corpus comes in splits.

    Raises:
        UserError: the corpus cannot be read, or has not two different documents.
    """
    corpus = CORPORA[config.name](config)
    key = {
        "version": VERSION,
        "name": config.name,
        "content": corpus.fingerprint(),
        "validation_fraction": config.validation_fraction,
        "max_documents": config.max_documents,
    }

    def build(folder: Path) -> None:
        _log.info("Preparing the corpus '%s' (once, then it is read from the cache)", config.name)
        documents = _first(_cleaned(corpus.documents()), config.max_documents)
        tally = _write(documents, folder / DOCUMENTS)
        in_validation = _part(tally, config)
        np.save(folder / IN_VALIDATION, in_validation)
        (folder / SUMMARY).write_text(json.dumps(_summary(tally, in_validation), indent=1))

    return CorpusStore(cached("corpus", key, build))


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


@dataclass
class _Tally:
    """What is known of each written document: eight bytes a number, so millions fit."""

    hashes: array[int] = field(default_factory=lambda: array("Q"))
    paragraphs: array[int] = field(default_factory=lambda: array("q"))
    characters: array[int] = field(default_factory=lambda: array("q"))
    own_validation: set[int] = field(default_factory=set)


def _write(documents: Iterator[Document], path: Path) -> _Tally:
    """Write documents to an Arrow file, and return what there is to know about them.

    A training document that is also in the corpus's own validation split is left out.
    """
    tally = _Tally()
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, _SCHEMA) as writer:
        rows: list[dict[str, object]] = []
        characters = 0
        for document in documents:
            identity = int(fingerprint(document.paragraphs), 16)
            if document.split == "validation":
                tally.own_validation.add(identity)
            elif identity in tally.own_validation:
                continue
            tally.hashes.append(identity)
            tally.paragraphs.append(len(document.paragraphs))
            tally.characters.append(sum(map(len, document.paragraphs)))
            rows.append({"name": document.name, "paragraphs": document.paragraphs})
            characters += tally.characters[-1]
            if characters >= BATCH_CHARACTERS:
                writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=_SCHEMA))
                rows, characters = [], 0
        writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=_SCHEMA))
    return tally


def _part(tally: _Tally, config: DatasetConfig) -> NDArray[np.bool_]:
    """Return for each document whether it is for validation."""
    hashes = np.array(tally.hashes, dtype=np.uint64)
    if not len(hashes):
        raise UserError(f"dataset={config.name}: the corpus has no text.")
    distinct = np.unique(hashes)
    if len(distinct) < 2:
        raise UserError(
            f"dataset={config.name}: the corpus has only one document, and training and"
            " validation need one each; part a text file into documents by blank lines"
            " (two in a row where lines are wrapped), or name a second file."
        )
    if tally.own_validation:
        in_validation: NDArray[np.bool_] = np.isin(
            hashes, np.array(list(tally.own_validation), dtype=np.uint64)
        )
        if in_validation.all():
            raise UserError(f"dataset={config.name}: all training text is in validation too.")
        return in_validation
    count = max(1, round(config.validation_fraction * len(distinct)))
    chosen: NDArray[np.bool_] = hashes <= distinct[min(count, len(distinct) - 1) - 1]
    return chosen


def _summary(tally: _Tally, in_validation: NDArray[np.bool_]) -> dict[str, object]:
    """Return the sizes of the splits and the hash of the content, as ``CorpusStore`` reads them."""
    content = hashlib.blake2b(np.array(tally.hashes, dtype="<u8").tobytes(), digest_size=8)
    content.update(in_validation.tobytes())
    sizes = {}
    for split, chosen in zip(SPLITS, (~in_validation, in_validation), strict=True):
        paragraphs, characters = np.array(tally.paragraphs), np.array(tally.characters)
        size = SplitSize(
            int(chosen.sum()), int(paragraphs[chosen].sum()), int(characters[chosen].sum())
        )
        sizes[split] = asdict(size)
    return {"fingerprint": content.hexdigest(), "sizes": sizes}
