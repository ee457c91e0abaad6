"""Corpora: documents out, training and validation apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from bertexp.corpora.config import DatasetConfig
from bertexp.registry import Registry


@dataclass(frozen=True, slots=True)
class Document:
    """A text with paragraphs: the unit that training and validation are parted by.

    Attributes:
        name: where it comes from (a module, an article, a file), for people to read.
        paragraphs: its paragraphs, in order.
        split: ``"train"`` or ``"validation"`` where the corpus itself parts them.
    """

    name: str
    paragraphs: list[str]
    split: str | None = None


class Corpus(Protocol):
    """What a dataset builder returns."""

    def fingerprint(self) -> str:
        """Return a value that changes whenever ``documents`` would give something else."""

    def documents(self) -> Iterator[Document]:
        """Yield all documents, always in the same order, holding few in memory at a time.

        Where the corpus comes in splits, validation is first. Empty paragraphs and documents
        may be among them: the store leaves them out.
        """


CORPORA: Registry[Callable[[DatasetConfig], Corpus]] = Registry("dataset.name", "bertexp.corpora")
