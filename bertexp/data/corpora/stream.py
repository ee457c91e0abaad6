"""A corpus read from its source without end, for one that is too large to prepare."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice

import numpy as np

from bertexp import draws
from bertexp.data.corpora import Document, ReadDocuments
from bertexp.data.corpora.shard import cleaned, identity
from bertexp.validation import UserError


@dataclass(frozen=True, order=True)
class Place:
    """Where a document stands in a stream.

    Attributes:
        turn: how often the whole corpus was read before.
        shard: how many shards of this turn were.
        document: how many documents of this shard were.
    """

    turn: int = 0
    shard: int = 0
    document: int = 0


@dataclass(frozen=True)
class DocumentStream:
    """The training documents of a corpus, over and over, from any place on.

    Each turn takes the shards in an order of its own, drawn under the seed.

    Attributes:
        shards: what reads the corpus, see ``Corpus.shards``.
        left_out: the identities of documents that are for validation, wherever they come.
        seed: the run's seed.
    """

    shards: Sequence[ReadDocuments]
    left_out: frozenset[int]
    seed: int

    def read(self, start: Place) -> Iterator[tuple[Place, Document]]:
        """Yield documents without end, each with its place.

        Raises:
            UserError: the corpus cannot be read, or has nothing to train on.
        """
        for turn in count(start.turn):
            found = False
            state = draws.combine(draws.key("shards", self.seed, turn), np.arange(len(self.shards)))
            for shard, number in enumerate(np.argsort(state)):
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
