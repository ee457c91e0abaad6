"""Corpora from the Hugging Face Hub, or from a local folder with the same layout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from bertexp.data.cache import fingerprint
from bertexp.data.config import DatasetConfig
from bertexp.data.corpora import CORPORA, Corpus, Document, ReadDocuments
from bertexp.data.corpora.columnar import pick, pick_columns
from bertexp.data.corpora.formats import PART_BYTES
from bertexp.data.corpora.text import row_paragraphs, text_lines, wanted, wikitext_documents
from bertexp.data.hub import loading
from bertexp.validation import UserError

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

    Rows: TypeAlias = Dataset | IterableDataset

VERSION = 1
ROWS_AT_ONCE = 1000
SENTENCES_PER_PARAGRAPH = 10
SENTENCES_PER_DOCUMENT = 100
READS = ("dataset.hub", "dataset.column")

ReadRows = Callable[[Iterable[str], str, int], Iterator[Document]]


@dataclass
class HubCorpus(Corpus):
    """The rows of a data set that ``datasets.load_dataset`` finds, as documents.

    Args:
        read_rows: turns the texts of rows into documents, given a name for them and the number
            of the first row.
        rows_together: after how many rows a document ends; None if that depends on the text.

    Raises:
        UserError: the data set does not exist, has no such configuration, split or column, or is
            not in the cache while the Hub does not answer.
    """

    config: DatasetConfig
    read_rows: ReadRows
    rows_together: int | None

    def fingerprint(self) -> str:
        hub = self.config.hub
        if self.config.streaming:
            from datasets import load_dataset_builder

            with _loading(self.config, hub.train):
                sources = load_dataset_builder(str(hub.path), hub.config).hash
        else:
            # A prepared data set's folder is named after a hash of its source.
            sources = [
                (name, rows.num_rows, [Path(f["filename"]).parts[-2:] for f in rows.cache_files])
                for name, rows in self._splits.items()
            ]
        return fingerprint([VERSION, hub.path, hub.config, self.config.column, sources])

    def shards(self) -> Sequence[ReadDocuments]:
        read = partial(_read, config=self.config, read_rows=self.read_rows)
        parted = "validation" in self._splits
        return [
            partial(read, rows, name=name, first=first, split=name if parted else None)
            for name, dataset in self._splits.items()
            for first, rows in self._parts(dataset)
        ]

    def _parts(self, dataset: Rows) -> Iterator[tuple[int, Rows]]:
        """Yield parts that end with a document, each with the number of its first row."""
        if self.config.streaming:
            for number in range(dataset.num_shards):
                yield 0, dataset.shard(dataset.num_shards, number)
            return
        count = size = dataset.num_rows
        if self.rows_together:
            parts = max(1, round(dataset.data.nbytes / PART_BYTES))
            size = -(-count // (parts * self.rows_together)) * self.rows_together
        for first in range(0, count, max(size, 1)):
            yield first, dataset.select(range(first, min(first + size, count)))

    @cached_property
    def _splits(self) -> dict[str, Rows]:
        hub = self.config.hub
        # Validation first: the store relies on it.
        wanted = {"validation": hub.validation, "train": hub.train}
        return {split: _load(self.config, name) for split, name in wanted.items() if name}


def _load(config: DatasetConfig, split: str) -> Rows:
    from datasets import load_dataset

    path = str(config.hub.path)
    with _loading(config, split):
        rows = load_dataset(path, config.hub.config, split=split, streaming=config.streaming)
    # Some streams do not know their columns until they are read.
    if rows.column_names is not None:
        pick_columns(rows.column_names, wanted(config), f"'{path}'")
    return rows


def _loading(config: DatasetConfig, split: str) -> AbstractContextManager[None]:
    hub = config.hub
    if not hub.path:
        raise UserError(f"dataset.hub.path=null: dataset={config.name} needs a Hub name or folder.")
    named, wanted = f"dataset.hub.path={hub.path}", f"config={hub.config} split={split}"
    instead = "dataset=pydoc (no network needed), or dataset=text 'dataset.files=[FILE]'"
    return loading(hub.path, named, wanted, instead)


def _read(
    rows: Rows, config: DatasetConfig, read_rows: ReadRows, name: str, first: int, split: str | None
) -> Iterator[Document]:
    for document in read_rows(_texts(rows, config, name, first), name, first):
        yield Document(document.name, document.paragraphs, split)


def _texts(dataset: Rows, config: DatasetConfig, name: str, first: int) -> Iterator[str]:
    columns = wanted(config)
    # Some streams do not know their columns until they are read.
    if dataset.column_names is not None:
        dataset = dataset.select_columns(pick_columns(dataset.column_names, columns, name))
    number = first
    for batch in dataset.iter(batch_size=ROWS_AT_ONCE):
        for values in zip(*batch.values(), strict=True):
            number += 1
            place = f"{config.hub.path}, {name}, row {number}"
            row = pick(dict(zip(batch, values, strict=True)), columns, place)
            yield "\n".join(row_paragraphs(row, config, place))


def _row_a_document(texts: Iterable[str], name: str, first: int) -> Iterator[Document]:
    for number, text in enumerate(texts, start=first + 1):
        yield Document(f"{name}:{number}", text_lines(text))


def _row_a_sentence(texts: Iterable[str], name: str, first: int) -> Iterator[Document]:
    """Yield runs of consecutive sentences as documents, as the data does not mark boundaries."""
    sentences: list[str] = []
    number = first
    for number, text in enumerate(texts, start=first + 1):
        sentences.append(text.strip())
        if len(sentences) == SENTENCES_PER_DOCUMENT:
            yield Document(f"{name}:{number - len(sentences) + 1}", _joined(sentences))
            sentences = []
    yield Document(f"{name}:{number - len(sentences) + 1}", _joined(sentences))


def _row_a_line(texts: Iterable[str], name: str, first: int) -> Iterator[Document]:
    return wikitext_documents(texts, name)


def _joined(sentences: list[str]) -> list[str]:
    starts = range(0, len(sentences), SENTENCES_PER_PARAGRAPH)
    return [" ".join(sentences[start : start + SENTENCES_PER_PARAGRAPH]) for start in starts]


@CORPORA.register("wikitext2", reads=READS)
@CORPORA.register("wikitext103", reads=READS)
def wikitext(config: DatasetConfig) -> Corpus:
    """Return a corpus whose rows are lines of WikiText; each title begins a document."""
    return HubCorpus(config, _row_a_line, rows_together=None)


@CORPORA.register("hub", reads=READS)
@CORPORA.register("wikipedia", reads=READS)
def articles(config: DatasetConfig) -> Corpus:
    """Return a corpus with one document per row, like most data sets."""
    return HubCorpus(config, _row_a_document, rows_together=1)


@CORPORA.register("bookcorpus", reads=READS)
def bookcorpus(config: DatasetConfig) -> Corpus:
    """Return a corpus whose rows are consecutive sentences."""
    return HubCorpus(config, _row_a_sentence, SENTENCES_PER_DOCUMENT)
