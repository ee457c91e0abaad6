"""A corpus that is too large to prepare: read from its source, one buffer at a time."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from itertools import count, islice
from pathlib import Path

import numpy as np

from bertexp import draws
from bertexp.data.corpora import Document, ReadDocuments
from bertexp.data.corpora.shard import characters_of, cleaned, identity, in_chunks
from bertexp.data.tokens.encoding import TextEncoder
from bertexp.data.tokens.store import TokenStore
from bertexp.validation import UserError

# Characters read and encoded at once.
CHUNK_CHARACTERS = 1 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """A place in a stream: the turn, shard, document and block, each numbered from 0."""

    turn: int = 0
    shard: int = 0
    document: int = 0
    block: int = 0


@dataclass(frozen=True)
class DocumentStream:
    """The training documents of a corpus, repeated without end, starting anywhere.

    Each turn has its own order of shards, drawn from the seed. ``left_out`` has the identities of
    documents that are for validation.
    """

    shards: Sequence[ReadDocuments]
    left_out: frozenset[int]
    seed: int

    def read(self, start: Place) -> Iterator[tuple[Place, Document]]:
        """Yield documents without end, each with its place.

        Raises:
            UserError: the corpus cannot be read, or has no text to train on.
        """
        for turn in count(start.turn):
            found = False
            order = draws.permutation("shards", self.seed, turn, len(self.shards))
            for shard, number in enumerate(order):
                if (turn, shard) < (start.turn, start.shard):
                    continue
                here = (turn, shard) == (start.turn, start.shard)
                first = start.document if here else 0
                documents = islice(enumerate(cleaned(self.shards[number]())), first, None)
                for index, document in documents:
                    if document.split != "validation" and identity(document) not in self.left_out:
                        found = True
                        yield Place(turn, shard, index), document
            if not found and turn > start.turn:
                raise UserError("dataset.streaming=true: the corpus has no text to train on.")


@dataclass(frozen=True)
class Buffer:
    """Consecutive documents of a stream, each with a single paragraph and sentence.

    ``first`` is the number of the buffer's first block; those before it are in the previous one.
    """

    tokens: TokenStore
    first: int


class TokenStream:
    """The blocks of a stream's documents, in buffers of equal size, each block in one buffer.

    A block has ``block_tokens`` tokens, the last one of a document possibly fewer. A file records
    where buffers begin, so that a resumed run can skip earlier documents. Without the file it
    reads them again, with the same result.
    """

    def __init__(
        self,
        documents: DocumentStream,
        encoder: TextEncoder,
        block_tokens: int,
        blocks: int,
        notes: Path,
    ) -> None:
        self._documents, self._encoder, self._notes = documents, encoder, notes
        self._size, self._blocks = block_tokens, blocks
        # A forked process must not continue to read files that its parent opened.
        self._at: tuple[int, int] | None = None
        self._reading: Iterator[tuple[Place, list[np.ndarray]]] = iter(())

    def __getstate__(self) -> dict[str, object]:
        return vars(self) | {"_at": None, "_reading": iter(())}

    def buffer(self, number: int) -> Buffer:
        """Return a buffer; fastest in order."""
        if self._at != (os.getpid(), number):
            known, start = self._last_known(number)
            if known < number:
                log.info("Reading on from buffer %d to buffer %d of the stream", known, number)
            self._reading = self._fill(start)
            for passed in range(known, number):
                self._note(passed, next(self._reading)[0])
        start, texts = next(self._reading)
        self._note(number, start)
        self._at = (os.getpid(), number + 1)
        ends = np.cumsum([0, *map(len, texts)])
        each = np.arange(len(ends))
        name = f"{self._notes.stem}-{number}"
        return Buffer(TokenStore(np.concatenate(texts), ends, each, each, name), start.block)

    def _fill(self, start: Place) -> Iterator[tuple[Place, list[np.ndarray]]]:
        texts: list[np.ndarray] = []
        blocks = -start.block
        for place, ids in self._tokenized(start):
            texts.append(ids)
            own = -(-len(ids) // self._size)
            blocks += own
            while blocks >= self._blocks:
                yield start, texts
                blocks -= self._blocks
                # The rest of the last document begins the next buffer.
                start, texts = replace(place, block=own - blocks), [ids]

    def _tokenized(self, start: Place) -> Iterator[tuple[Place, np.ndarray]]:
        stream = self._documents.read(start)
        for chunk in in_chunks(stream, lambda pair: characters_of(pair[1]), CHUNK_CHARACTERS):
            texts = [text for _, document in chunk for text in document.paragraphs]
            sizes = [len(document.paragraphs) for _, document in chunk]
            ids, lengths = self._encoder.encode(texts)
            firsts = np.cumsum([0, *sizes[:-1]])
            ends = np.cumsum(np.add.reduceat(lengths, firsts))
            places = [place for place, _ in chunk]
            yield from zip(places, np.split(ids, ends[:-1]), strict=True)

    def _note(self, number: int, start: Place) -> None:
        if self._last_known(number) == (number, start):
            return
        # The cache may be read-only; without the file resuming is only slower.
        with suppress(OSError):
            self._notes.parent.mkdir(parents=True, exist_ok=True)
            with self._notes.open("a", encoding="utf-8") as file:
                file.write(json.dumps([number, *astuple(start)]) + "\n")

    def _last_known(self, number: int) -> tuple[int, Place]:
        """Return the number of the last recorded buffer up to ``number``, and where it begins."""
        best = (0, Place())
        lines = self._notes.read_text().splitlines() if self._notes.exists() else []
        for line in lines:
            try:
                found, *place = json.loads(line)
            except ValueError:
                continue  # cut off by a kill
            if best[0] <= found <= number:
                best = (found, Place(*place))
        return best
