"""Tokens on their way to a store: spooled shard by shard, then joined in one file a split."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from bertexp.data.tokens.encoding import TextEncoder
from bertexp.data.tokens.layout import lay_out

# Characters that are encoded at once: enough to be vectorised, little memory.
CHUNK_CHARACTERS = 1 << 20
# Entries that are added up at once.
BLOCK = 1 << 20

UNITS = ("documents", "paragraphs", "sentences")
SIZE = np.dtype(np.uint32)

# Documents as paragraphs of sentences.
Texts = list[list[str]]


def spool(path: Path, documents: Iterable[Texts], encoder: TextEncoder) -> None:
    """Write documents to ``path`` with a suffix each for tokens, the units' sizes, and counts.

    Sentences that have no token are left out, and so are the paragraphs and documents that
    this leaves empty. Tokens are those of ``encoder``; the size of a unit is the number of
    units of the level below that it has, ``uint32``; the counts say how often each id occurs.
    """
    counts_V = np.zeros(encoder.vocab_size, np.int64)
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(file.open("wb")) for file in _files(path)]
        for chunk in _chunks(documents):
            ids, sentences = encoder.encode([text for doc in chunk for par in doc for text in par])
            paragraphs = np.array([len(par) for doc in chunk for par in doc], np.int64)
            sizes = np.array([len(doc) for doc in chunk], np.int64)
            sentences, paragraphs = _without_empty(sentences, paragraphs)
            paragraphs, sizes = _without_empty(paragraphs, sizes)
            for file, level in zip(files, (sizes[sizes > 0], paragraphs, sentences), strict=False):
                file.write(level.astype(SIZE).tobytes())
            files[-1].write(ids.tobytes())
            counts_V += np.bincount(ids, minlength=len(counts_V))
    np.save(path.with_suffix(".counts.npy"), counts_V)


def _files(path: Path) -> list[Path]:
    return [path.with_suffix(f".{level}") for level in (*UNITS, "tokens")]


def _chunks(documents: Iterable[Texts]) -> Iterator[list[Texts]]:
    chunk: list[Texts] = []
    size = 0
    for document in documents:
        chunk.append(document)
        size += sum(len(text) for paragraph in document for text in paragraph)
        if size >= CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    yield chunk


def _without_empty(sizes: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sizes that are not 0, and how many of them are in each group.

    Args:
        sizes: of units.
        groups: how many units there are in each unit of the level above.
    """
    full = sizes > 0
    group = np.repeat(np.arange(len(groups)), groups)
    return sizes[full], np.bincount(group[full], minlength=len(groups))


def join(spooled: Sequence[Path], path: Path, dtype: np.dtype) -> None:
    """Write what was spooled to several places to one Arrow file, and the counts beside it.

    Args:
        spooled: the paths that were given to ``spool``.
        path: the file; it has one nested array, a document an entry.
        dtype: of the ids.
    """
    levels = list(zip(*map(_files, spooled), strict=True))
    lengths = [sum(file.stat().st_size for file in files) for files in levels]
    sizes = [*(length // SIZE.itemsize for length in lengths[:-1]), lengths[-1] // dtype.itemsize]
    places = lay_out(path, sizes, dtype)
    with path.open("r+b") as out:
        for place, files in zip(places[:-1], levels[:-1], strict=True):
            out.seek(place + np.dtype(np.int64).itemsize)  # the first offset is 0
            for offsets in _offsets(files):
                out.write(offsets.tobytes())
        out.seek(places[-1])
        for file in levels[-1]:
            with file.open("rb") as tokens:
                shutil.copyfileobj(tokens, out, BLOCK)
    counts = [np.load(file.with_suffix(".counts.npy")) for file in spooled]
    np.save(path.with_suffix(".counts.npy"), np.sum(counts, axis=0))


def _offsets(files: Iterable[Path]) -> Iterator[np.ndarray]:
    """Yield the ends of units whose sizes are in ``files``, some at a time."""
    end = 0
    for path in files:
        with path.open("rb") as file:
            while len(sizes := np.fromfile(file, SIZE, BLOCK)):
                ends = end + np.cumsum(sizes, dtype=np.int64)
                end = int(ends[-1])
                yield ends
