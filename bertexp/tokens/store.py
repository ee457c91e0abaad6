"""A corpus as tokens: one Arrow file a split, written once, read through a memory map."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from bertexp.cache import cached
from bertexp.tokens.sentences import split_sentences
from bertexp.tokens.tokenizer import WordPieceTokenizer

if TYPE_CHECKING:
    from bertexp.corpora.store import CorpusStore

FORMAT_VERSION = 1
SPLITS = ("train", "validation")
# Texts that go to the tokenizer at once: enough for all cores, little memory.
CHUNK_TEXTS = 4096


@dataclass(frozen=True, eq=False)
class TokenStore:
    """The tokens of one split, without special tokens, and where its units of text end.

    Each ``*_offsets`` array has one entry more than there are units: unit ``i`` runs from
    ``offsets[i]`` to ``offsets[i + 1]`` of the level below. All arrays lie in the
    memory-mapped file.

    Attributes:
        tokens: ids, one after the other.
        sentence_offsets: sentences, in tokens.
        paragraph_offsets: paragraphs, in sentences.
        document_offsets: documents, in paragraphs.
        fingerprint: name of the cached content and split.
    """

    tokens: np.ndarray
    sentence_offsets: np.ndarray
    paragraph_offsets: np.ndarray
    document_offsets: np.ndarray
    fingerprint: str

    @classmethod
    def open(cls, path: Path) -> TokenStore:
        """Map the file at ``path``; nothing of it is read before it is used."""
        with pa.memory_map(str(path)) as source:
            documents = pa.ipc.open_file(source).get_batch(0).column(0)
        paragraphs = documents.values
        sentences = paragraphs.values
        return cls(
            tokens=sentences.values.to_numpy(),
            sentence_offsets=sentences.offsets.to_numpy(),
            paragraph_offsets=paragraphs.offsets.to_numpy(),
            document_offsets=documents.offsets.to_numpy(),
            fingerprint=f"{path.parent.name}-{path.stem}",
        )

    @cached_property
    def document_token_offsets(self) -> np.ndarray:
        """Documents, in tokens."""
        return self.sentence_offsets[self.paragraph_offsets[self.document_offsets]]


def prepare_tokens(
    corpus: CorpusStore, tokenizer: WordPieceTokenizer, sentences: str | None, language: str
) -> dict[str, TokenStore]:
    """Tokenize both splits of ``corpus``, or find them in the cache.

    Args:
        corpus: the prepared corpus.
        tokenizer: what cuts it.
        sentences: how paragraphs are cut into sentences, see ``split_sentences``.
        language: the language for that.
    """
    key = {
        "format": FORMAT_VERSION,
        "corpus": corpus.fingerprint,
        "tokenizer": tokenizer.fingerprint,
        "sentences": sentences,
        "language": language if sentences == "sentencex" else None,
    }

    def build(folder: Path) -> None:
        dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32)
        for split in SPLITS:
            documents = (
                [
                    split_sentences(paragraph, sentences, language)
                    for paragraph in document.paragraphs
                ]
                for document in corpus.documents(split)
            )
            write_tokens(folder / f"{split}.arrow", documents, tokenizer, dtype)

    folder = cached("tokens", key, build)
    return {split: TokenStore.open(folder / f"{split}.arrow") for split in SPLITS}


class _Offsets:
    """Where the units of one level end, counted in the level below, appended to a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._ends = [0]
        self._last = 0
        self.count = 0

    def end(self, position: int) -> None:
        """Close a unit at ``position``; one that holds nothing is left out."""
        if position > self._last:
            self._ends.append(position)
            self._last = position
            self.count += 1

    def flush(self) -> None:
        self._file.write(np.asarray(self._ends, dtype=np.int64).tobytes())
        self._ends = []

    def close(self) -> None:
        self.flush()
        self._file.close()


def write_tokens(
    path: Path,
    documents: Iterator[list[list[str]]],
    tokenizer: WordPieceTokenizer,
    dtype: np.dtype,
) -> None:
    """Write documents (paragraphs of sentences) as one nested Arrow array.

    Tokens and offsets are first appended to plain files, so that memory does not grow with
    the corpus, then mapped and written as one record batch. Sentences that have no token
    are left out, and so are the paragraphs and documents that this leaves empty.
    """
    token_path = path.with_suffix(".tokens")
    offset_paths = [path.with_suffix(f".{level}") for level in ("sentences", "paragraphs", "docs")]
    _spool(token_path, offset_paths, documents, tokenizer, dtype)
    values = pa.array(_mapped(token_path, dtype))
    for offset_path in offset_paths:
        offsets = pa.array(_mapped(offset_path, np.dtype(np.int64)))
        values = pa.LargeListArray.from_arrays(offsets, values)
    batch = pa.record_batch([values], names=["documents"])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    for spooled in (token_path, *offset_paths):
        spooled.unlink()


def _spool(
    token_path: Path,
    offset_paths: list[Path],
    documents: Iterator[list[list[str]]],
    tokenizer: WordPieceTokenizer,
    dtype: np.dtype,
) -> None:
    with contextlib.ExitStack() as stack:
        token_file = stack.enter_context(token_path.open("wb"))
        levels = [stack.enter_context(contextlib.closing(_Offsets(p))) for p in offset_paths]
        sentences, paragraphs, docs = levels
        written = 0
        for chunk in _chunks(documents):
            encoded = tokenizer.encode([text for doc in chunk for par in doc for text in par])
            token_file.write(np.fromiter(chain.from_iterable(encoded), dtype).tobytes())
            lengths = map(len, encoded)
            for document in chunk:
                for paragraph in document:
                    for _ in paragraph:
                        written += next(lengths)
                        sentences.end(written)
                    paragraphs.end(sentences.count)
                docs.end(paragraphs.count)
            for level in levels:
                level.flush()


def _chunks(documents: Iterator[list[list[str]]]) -> Iterator[list[list[list[str]]]]:
    chunk: list[list[list[str]]] = []
    size = 0
    for document in documents:
        chunk.append(document)
        size += sum(map(len, document))
        if size >= CHUNK_TEXTS:
            yield chunk
            chunk, size = [], 0
    yield chunk


def _mapped(path: Path, dtype: np.dtype) -> np.ndarray:
    if path.stat().st_size == 0:
        return np.empty(0, dtype)
    return np.memmap(path, dtype=dtype, mode="r")
