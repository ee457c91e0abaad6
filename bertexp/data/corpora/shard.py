"""A part of a corpus on disk: its documents in Arrow files, and a record of each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bertexp.data.cache import fingerprint
from bertexp.data.corpora import Document, ReadDocuments

T = TypeVar("T")

BATCH_CHARACTERS = 1 << 20
FILE_CHARACTERS = 1 << 24
TALLY = "tally.npz"

_SCHEMA = pa.schema([("name", pa.large_string()), ("paragraphs", pa.large_list(pa.large_string()))])
# The record of a document: 25 bytes, so millions of them fit in memory.
_KNOWN = np.dtype(
    [("hash", np.uint64), ("paragraphs", np.int64), ("characters", np.int64), ("own", np.bool_)]
)


def cleaned(documents: Iterable[Document]) -> Iterator[Document]:
    for document in documents:
        stripped = [paragraph.strip() for paragraph in document.paragraphs]
        if paragraphs := [paragraph for paragraph in stripped if paragraph]:
            yield Document(document.name, paragraphs, document.split)


def _first(documents: Iterator[Document], limit: int | None) -> Iterator[Document]:
    """Keep the first ``limit`` documents of each split; a corpus yields validation first."""
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


def file_name(number: int) -> str:
    return f"{number:05}.arrow"


def write_shard(read: ReadDocuments, folder: Path, limit: int | None) -> None:
    """Write the documents that have text to Arrow files, and their records to ``TALLY``."""
    tally: list[NDArray[np.void]] = []
    rows: list[int] = []
    with contextlib.ExitStack() as stack:
        left = 0
        documents = _first(cleaned(read()), limit)
        for batch in in_chunks(documents, characters_of, BATCH_CHARACTERS):
            if left <= 0:
                stack.close()
                file = stack.enter_context(pa.OSFile(str(folder / file_name(len(rows))), "wb"))
                writer = stack.enter_context(pa.ipc.new_file(file, _SCHEMA))
                left = FILE_CHARACTERS
                rows.append(0)
            columns = ([d.name for d in batch], [d.paragraphs for d in batch])
            arrays = [pa.array(*pair) for pair in zip(columns, _SCHEMA.types, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=_SCHEMA))
            tally.append(np.array([_known(document) for document in batch], dtype=_KNOWN))
            left -= int(tally[-1]["characters"].sum())
            rows[-1] += len(batch)
    every = np.concatenate([np.empty(0, _KNOWN), *tally])
    np.savez(folder / TALLY, every=every, rows=np.array(rows, dtype=np.int64))


def in_chunks(items: Iterable[T], size: Callable[[T], int], least: int) -> Iterator[list[T]]:
    """Yield lists of items, each of a total size of at least ``least`` but for the last."""
    chunk: list[T] = []
    total = 0
    for item in items:
        chunk.append(item)
        total += size(item)
        if total >= least:
            yield chunk
            chunk, total = [], 0
    if chunk:
        yield chunk


def characters_of(document: Document) -> int:
    return sum(map(len, document.paragraphs))


def identity(document: Document) -> int:
    """Return a 64-bit hash of a document's paragraphs."""
    return int(fingerprint(document.paragraphs), 16)


def _known(document: Document) -> tuple[int, int, int, bool]:
    own = document.split == "validation"
    return identity(document), len(document.paragraphs), characters_of(document), own
