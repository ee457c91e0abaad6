"""A corpus as tokens: one Arrow file a split, written once, read through a memory map."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from bertexp.data.shards import cached_in_shards
from bertexp.data.tokens.encoding import TextEncoder
from bertexp.data.tokens.sentences import split_sentences
from bertexp.data.tokens.spool import join, spool
from bertexp.data.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from bertexp.data.corpora.store import CorpusStore

FORMAT_VERSION = 2
SPLITS = ("train", "validation")
# Tokens counted at once, so that a large corpus does not need large temporaries.
COUNT_CHUNK = 1 << 24


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
        counted: how often each id occurs, if that is known.
    """

    tokens: np.ndarray
    sentence_offsets: np.ndarray
    paragraph_offsets: np.ndarray
    document_offsets: np.ndarray
    fingerprint: str
    counted: np.ndarray | None = None

    @classmethod
    def open(cls, path: Path) -> TokenStore:
        """Map the file at ``path``; nothing of it is read before it is used."""
        with pa.memory_map(str(path)) as source:
            documents = pa.ipc.open_file(source).get_batch(0).column(0)
        paragraphs = documents.values
        sentences = paragraphs.values
        return cls(
            # Not to_numpy(), which imports pandas.
            tokens=np.from_dlpack(sentences.values),
            sentence_offsets=np.from_dlpack(sentences.offsets),
            paragraph_offsets=np.from_dlpack(paragraphs.offsets),
            document_offsets=np.from_dlpack(documents.offsets),
            fingerprint=f"{path.parent.name}-{path.stem}",
            counted=np.load(path.with_suffix(".counts.npy")),
        )

    @cached_property
    def document_token_offsets(self) -> np.ndarray:
        """Documents, in tokens."""
        return self.sentence_offsets[self.paragraph_offsets[self.document_offsets]]

    def counts(self, vocab_size: int) -> np.ndarray:
        """Return how often each id occurs, ``int64`` of shape (vocab_size,)."""
        if self.counted is not None:
            return self.counted.copy()
        counts_V = np.zeros(vocab_size, dtype=np.int64)
        for first in range(0, len(self.tokens), COUNT_CHUNK):
            counts_V += np.bincount(self.tokens[first : first + COUNT_CHUNK], minlength=vocab_size)
        return counts_V


def prepare_tokens(
    corpus: CorpusStore,
    tokenizer: Tokenizer,
    sentences: str | None,
    language: str,
    processes: int = 1,
) -> dict[str, TokenStore]:
    """Tokenize both splits of ``corpus``, or find them in the cache.

    Args:
        corpus: the prepared corpus.
        tokenizer: what cuts it.
        sentences: how paragraphs are cut into sentences, see ``split_sentences``.
        language: the language for that.
        processes: how many tokenize.
    """
    key = {
        "format": FORMAT_VERSION,
        "corpus": corpus.fingerprint,
        "tokenizer": tokenizer.fingerprint,
        "sentences": sentences,
        "language": language if sentences == "sentencex" else None,
    }
    build = _Build(corpus, tokenizer, sentences, language)

    def shards() -> list[int]:
        return list(range(len(corpus.rows)))

    def merge(folders: list[Path], folder: Path) -> None:
        for split in SPLITS:
            join([shard / split for shard in folders], folder / f"{split}.arrow", build.dtype)

    folder = cached_in_shards("tokens", key, shards, build, merge, processes)
    return {split: TokenStore.open(folder / f"{split}.arrow") for split in SPLITS}


@dataclass(frozen=True)
class _Build:
    """Tokenizes one of a corpus's files into a folder."""

    corpus: CorpusStore
    tokenizer: Tokenizer
    sentences: str | None
    language: str

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint16 if self.tokenizer.vocab_size <= 1 << 16 else np.uint32)

    @cached_property
    def _encoder(self) -> TextEncoder:
        return TextEncoder(self.tokenizer, self.dtype)

    def __call__(self, file: int, folder: Path) -> None:
        for split in SPLITS:
            documents = (
                [split_sentences(text, self.sentences, self.language) for text in doc.paragraphs]
                for doc in self.corpus.documents(split, [file])
            )
            spool(folder / split, documents, self._encoder)
