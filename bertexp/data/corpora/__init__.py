"""Corpora: documents out, training and validation apart."""

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
    """A text with paragraphs: the unit that training and validation are parted by.

    Attributes:
        name: where it comes from (a module, an article, a file), for people to read.
        split: ``"train"`` or ``"validation"`` where the corpus itself parts them.
    """

    name: str
    paragraphs: list[str]
    split: str | None = None


ReadDocuments = Callable[[], Iterator[Document]]


class Corpus(ABC):
    """What a dataset builder returns."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a value that changes whenever ``documents`` would give something else."""

    def documents(self) -> Iterator[Document]:
        """Yield all documents, always in the same order, holding few in memory at a time.

        Where the corpus comes in splits, validation is first. Empty paragraphs and documents
        may be among them: the store leaves them out. A subclass defines this, or ``shards``.
        """
        return chain.from_iterable(read() for read in self.shards())

    def described(self) -> str:
        """Return the form in which the documents were found, where there are several."""
        return ""

    def language(self) -> Language | None:
        """Return the law that its texts follow, where it is known."""
        return None

    def shards(self) -> Sequence[ReadDocuments]:
        """Return functions that give the documents part by part, each in a process of its own."""
        return [self.documents]


CORPORA: Registry[Callable[[DatasetConfig], Corpus]] = Registry(
    "dataset.name", "bertexp.data.corpora"
)
