"""Corpora: sources of documents.

Files are found (``finding``), opened (``opening``), recognised (``formats``) and read (``text``,
``tables``); ``corpus`` stores the documents of any source in Arrow files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from bertexp.registry import Registry

if TYPE_CHECKING:
    from bertexp.data.config import DatasetConfig
    from bertexp.data.corpora.synthetic import Language


@dataclass(frozen=True, slots=True)
class Document:
    """A text with paragraphs, which belongs to training or validation as a whole.

    Attributes:
        name: where it comes from (a module, an article, a file), for display.
        split: ``"train"`` or ``"validation"`` if the corpus comes in splits.
    """

    name: str
    paragraphs: list[str]
    split: str | None = None


ReadDocuments = Callable[[], Iterator[Document]]


class Corpus(ABC):
    """What a dataset builder returns."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a value that changes whenever the documents change."""

    def documents(self) -> Iterator[Document]:
        """Yield all documents, always in the same order, holding few in memory at a time.

        If the corpus comes in splits, validation is first. Documents and paragraphs may be empty:
        the store drops those. A subclass defines this method or ``shards``.
        """
        return chain.from_iterable(read() for read in self.shards())

    def described(self) -> str:
        """Return the format the documents were found in, for corpora that have several."""
        return ""

    def language(self) -> Language | None:
        """Return the distribution its texts are drawn from, if known."""
        return None

    def shards(self) -> Sequence[ReadDocuments]:
        """Return functions that each yield a part of the documents; they may run in parallel."""
        return [self.documents]


CORPORA: Registry[Callable[[DatasetConfig], Corpus]] = Registry(
    "dataset.name", "bertexp.data.corpora"
)
