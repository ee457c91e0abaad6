"""A corpus as tokens: plain ``.npy`` files, written once and memory-mapped."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from bertexp.arrays import save_array
from bertexp.data.cache import fingerprint
from bertexp.data.corpora.corpus import SPLITS, CorpusStore
from bertexp.data.corpora.shard import in_chunks
from bertexp.data.parallel import cached_in_shards
from bertexp.data.tokens.encoding import TextEncoder
from bertexp.data.tokens.tokenizer import Tokenizer

# Incremented whenever the same text would give other tokens, or the same tokens other files.
TOKENS_VERSION = 2
FILES_VERSION = 3
# Characters encoded at once: enough to benefit from vectorised code, in little memory.
CHUNK_CHARACTERS = 1 << 20
# Tokens counted at once, so that a large corpus does not need large temporaries.
COUNT_CHUNK = 1 << 24
# Entries summed, or bytes copied, at once.
BLOCK = 1 << 20
SIZE = np.dtype(np.uint32)
# Units of text; each consists of units of the next level.
LEVELS = ("documents", "paragraphs", "sentences", "tokens")

# A document: paragraphs of sentences.
Texts = list[list[str]]


@dataclass(frozen=True, eq=False)
class TokenStore:
    """The tokens of one split, without special tokens, and where its units of text end.

    Each ``*_offsets`` array has one more entry than there are units: unit ``i`` consists of the
    units from ``offsets[i]`` to ``offsets[i + 1]`` of the level below.

    Attributes:
        sentence_offsets: sentences, in tokens.
        paragraph_offsets: paragraphs, in sentences.
        document_offsets: documents, in paragraphs.
        counted: how often each id occurs, if known.
    """

    tokens: np.ndarray
    sentence_offsets: np.ndarray
    paragraph_offsets: np.ndarray
    document_offsets: np.ndarray
    fingerprint: str
    counted: np.ndarray | None = None

    @classmethod
    def open(cls, folder: Path, split: str, name: str) -> TokenStore:
        """Memory-map the files of a split."""
        documents, paragraphs, sentences, tokens = (
            # As plain arrays, since slicing a ``memmap`` is slower.
            np.asarray(np.load(folder / f"{split}-{level}.npy", mmap_mode="r"))
            for level in LEVELS
        )
        counted = np.load(folder / f"{split}-counts.npy")
        return cls(tokens, sentences, paragraphs, documents, f"{name}-{split}", counted)

    @cached_property
    def document_token_offsets(self) -> np.ndarray:
        return self.sentence_offsets[self.paragraph_offsets[self.document_offsets]]

    def counts(self, vocab_size: int) -> np.ndarray:
        """Return how often each id occurs, ``int64`` of shape (vocab_size,)."""
        if self.counted is not None:
            return self.counted.copy()
        counts_V = np.zeros(vocab_size, dtype=np.int64)
        for first in range(0, len(self.tokens), COUNT_CHUNK):
            counts_V += np.bincount(self.tokens[first : first + COUNT_CHUNK], minlength=vocab_size)
        return counts_V


def count_tokens(tokens: TokenStore, tokenizer: Tokenizer) -> np.ndarray:
    """Return how often each id occurs, shape (vocabulary,); 0 for special tokens."""
    counts_V = tokens.counts(len(tokenizer.is_special_V))
    counts_V[tokenizer.is_special_V] = 0
    return counts_V


def prepare_tokens(
    corpus: CorpusStore,
    tokenizer: Tokenizer,
    sentences: str | None,
    language: str,
    processes: int = 1,
) -> dict[str, TokenStore]:
    """Return the tokens of both splits, from the cache if they are there."""
    content = {
        "format": TOKENS_VERSION,
        "corpus": corpus.fingerprint,
        "tokenizer": tokenizer.fingerprint,
        "sentences": sentences,
        "language": language if sentences == "sentencex" else None,
    }
    build = _Build(corpus, tokenizer, sentences, language)
    key = content | {"files": FILES_VERSION}
    shards = range(len(corpus.rows))

    def merge(folders: list[Path], folder: Path) -> None:
        for split in SPLITS:
            join_shards(folders, folder, split, build.encoder.dtype)

    folder = cached_in_shards("tokens", key, lambda: shards, build, merge, processes)
    name = fingerprint(content)
    return {split: TokenStore.open(folder, split, name) for split in SPLITS}


def split_sentences(paragraph: str, method: str | None, language: str) -> list[str]:
    """Split a paragraph into sentences, none of them empty.

    Args:
        method: ``"sentencex"`` (rules for many languages), ``"period"`` (split at every ``.`` and
            drop it, as the simplest tutorials do) or ``None`` (do not split).
        language: an ISO 639 code, for ``sentencex``.
    """
    if method is None:
        return [paragraph]
    if method == "period":
        return [sentence for sentence in paragraph.split(".") if sentence.strip()]
    from sentencex import segment

    return [sentence for sentence in segment(language, paragraph) if sentence.strip()]


@dataclass(frozen=True)
class _Build:
    corpus: CorpusStore
    tokenizer: Tokenizer
    sentences: str | None
    language: str

    @cached_property
    def encoder(self) -> TextEncoder:
        return TextEncoder(self.tokenizer)

    def __call__(self, file: int, folder: Path) -> None:
        for split in SPLITS:
            documents = (
                [split_sentences(text, self.sentences, self.language) for text in doc.paragraphs]
                for doc in self.corpus.documents(split, [file])
            )
            write_shard(folder, split, documents, self.encoder)


def write_shard(folder: Path, split: str, documents: Iterable[Texts], encoder: TextEncoder) -> None:
    """Write documents of a split as tokens, for ``join_shards``.

    Sentences without tokens are dropped, and so are paragraphs and documents that become empty.
    There is a file for the ids, one per higher level with the number of units of the level below
    in each unit, and one that counts how often each id occurs.
    """
    counts_V = np.zeros(encoder.vocab_size, np.int64)
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context((folder / f"{split}.{level}").open("wb")) for level in LEVELS]
        for chunk in in_chunks(documents, _characters, CHUNK_CHARACTERS):
            ids, sentences = encoder.encode([text for doc in chunk for par in doc for text in par])
            paragraphs = np.array([len(par) for doc in chunk for par in doc], np.int64)
            sizes = np.array([len(doc) for doc in chunk], np.int64)
            sentences, paragraphs = _without_empty(sentences, paragraphs)
            paragraphs, sizes = _without_empty(paragraphs, sizes)
            for file, part in zip(files, (sizes[sizes > 0], paragraphs, sentences), strict=False):
                file.write(part.astype(SIZE).data)
            files[-1].write(ids.data)
            counts_V += np.bincount(ids, minlength=len(counts_V))
    save_array(folder / f"{split}.counts.npy", counts_V)


def _characters(document: Texts) -> int:
    return sum(len(text) for paragraph in document for text in paragraph)


def _without_empty(sizes: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nonzero sizes, and how many of them are in each group.

    ``groups`` has the number of sizes in each unit of the level above.
    """
    full = sizes > 0
    group = np.repeat(np.arange(len(groups)), groups)
    return sizes[full], np.bincount(group[full], minlength=len(groups))


def join_shards(shards: Sequence[Path], folder: Path, split: str, dtype: np.dtype) -> None:
    """Write the files that ``TokenStore.open`` reads; ``dtype`` is that of the ids."""
    for level in LEVELS:
        files = [shard / f"{split}.{level}" for shard in shards]
        is_tokens = level == "tokens"
        length = (
            sum(file.stat().st_size for file in files) // (dtype if is_tokens else SIZE).itemsize
        )
        # Offsets are the ends of the units, preceded by a 0.
        end = np.zeros(1, np.int64)
        shape, kind = (length, dtype) if is_tokens else (length + 1, end.dtype)
        header = {"descr": kind.str, "fortran_order": False, "shape": (shape,)}
        with (folder / f"{split}-{level}.npy").open("wb") as out:
            np.lib.format.write_array_header_1_0(out, header)
            if not is_tokens:
                out.write(end.data)
            for file in files:
                with file.open("rb") as part:
                    if is_tokens:
                        shutil.copyfileobj(part, out, BLOCK)
                    while not is_tokens and len(sizes := np.fromfile(part, SIZE, BLOCK)):
                        ends = end + np.cumsum(sizes, dtype=end.dtype)
                        out.write(ends.data)
                        end = ends[-1:]
    counts = [np.load(shard / f"{split}.counts.npy") for shard in shards]
    save_array(folder / f"{split}-counts.npy", np.sum(counts, axis=0))
