"""Corpora from the Hugging Face Hub, or from a local folder in the same form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bertexp.cache import fingerprint
from bertexp.corpora import CORPORA, Corpus, Document
from bertexp.corpora.config import DatasetConfig
from bertexp.corpora.tables import missing_column, text_lines
from bertexp.corpora.wikitext import wikitext_documents
from bertexp.hub import hub_answers
from bertexp.validation import UserError

if TYPE_CHECKING:
    from datasets import Dataset

VERSION = 1
ROWS_AT_ONCE = 1000
SENTENCES_PER_PARAGRAPH = 10
SENTENCES_PER_DOCUMENT = 100

ReadRows = Callable[[Iterable[str], str], Iterator[Document]]


@dataclass
class HubCorpus:
    """The rows of a data set that ``datasets.load_dataset`` finds, as documents.

    Args:
        config: ``hub`` says where it is, ``column`` which column has the text.
        read_rows: makes documents of the texts of all rows, given a name for them.

    Raises:
        UserError: the Hub does not answer and the cache does not have it; it does not
            exist; it has no such configuration, split or column.
    """

    config: DatasetConfig
    read_rows: ReadRows

    def fingerprint(self) -> str:
        """Return a value for the files the data set was made of and the way they are read."""
        # The folder of a prepared data set is named by a hash of its source.
        sources = [
            (split, dataset.num_rows, [Path(file["filename"]).parts[-2:] for file in cache])
            for split, dataset in self._splits.items()
            for cache in [dataset.cache_files]
        ]
        hub = self.config.hub
        return fingerprint([VERSION, hub.path, hub.config, self.config.column, sources])

    def documents(self) -> Iterator[Document]:
        """Yield the documents of the validation split, if there is one, then of training."""
        parted = "validation" in self._splits
        for split, dataset in self._splits.items():
            for document in self.read_rows(_texts(dataset, self.config.column), split):
                yield Document(document.name, document.paragraphs, split if parted else None)

    @cached_property
    def _splits(self) -> dict[str, Dataset]:
        hub = self.config.hub
        # Validation first: the store relies on it.
        wanted = {"validation": hub.validation, "train": hub.train}
        return {split: _load(self.config, name) for split, name in wanted.items() if name}


def _load(config: DatasetConfig, split: str) -> Dataset:
    """Load one split of ``config.hub``, from the cache alone if the Hub does not answer."""
    from datasets import load_dataset

    path = config.hub.path
    if not path:
        raise UserError(f"dataset.hub.path=null: dataset={config.name} needs a Hub name or folder.")
    try:
        with offline_unless(Path(path).is_dir() or hub_answers()):
            dataset = load_dataset(path, config.hub.config, split=split)
    except ConnectionError as error:
        raise UserError(
            f"dataset.hub.path={path}: the Hugging Face Hub does not answer and the data set is"
            " not in its cache here; connect once, or use dataset=pydoc (needs no network) or"
            " dataset=text with files of your own."
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"dataset.hub: cannot load path={path} config={config.hub.config} split={split}:"
            f" {reason}"
        ) from error
    if config.column not in dataset.column_names:
        raise missing_column(f"'{path}'", config.column, dataset.column_names)
    return dataset


@contextmanager
def offline_unless(online: bool) -> Iterator[None]:
    """Make ``datasets`` look in its cache only, unless ``online``."""
    import datasets

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = before or not online
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _texts(dataset: Dataset, column: str) -> Iterator[str]:
    """Yield the texts of all rows, nulls left out."""
    for batch in dataset.select_columns([column]).iter(batch_size=ROWS_AT_ONCE):
        yield from (text for text in batch[column] if text is not None)


def _row_a_document(texts: Iterable[str], name: str) -> Iterator[Document]:
    """Yield a document for each row, a paragraph for each of its lines."""
    for number, text in enumerate(texts, start=1):
        yield Document(f"{name}:{number}", text_lines(text))


def _row_a_sentence(texts: Iterable[str], name: str) -> Iterator[Document]:
    """Yield runs of consecutive sentences as documents, for want of any boundary in the data."""
    sentences: list[str] = []
    number = 0
    for number, text in enumerate(texts, start=1):
        sentences.append(text.strip())
        if len(sentences) == SENTENCES_PER_DOCUMENT:
            yield Document(f"{name}:{number - len(sentences) + 1}", _joined(sentences))
            sentences = []
    yield Document(f"{name}:{number - len(sentences) + 1}", _joined(sentences))


def _joined(sentences: list[str]) -> list[str]:
    starts = range(0, len(sentences), SENTENCES_PER_PARAGRAPH)
    return [" ".join(sentences[start : start + SENTENCES_PER_PARAGRAPH]) for start in starts]


@CORPORA.register("wikitext2")
@CORPORA.register("wikitext103")
def wikitext(config: DatasetConfig) -> Corpus:
    """Return a corpus whose rows are the lines of WikiText: its titles part documents."""
    return HubCorpus(config, wikitext_documents)


@CORPORA.register("wikipedia")
def wikipedia(config: DatasetConfig) -> Corpus:
    """Return a corpus with a document a row, as most data sets have it."""
    return HubCorpus(config, _row_a_document)


@CORPORA.register("bookcorpus")
def bookcorpus(config: DatasetConfig) -> Corpus:
    """Return a corpus of rows that are sentences, one after the other."""
    return HubCorpus(config, _row_a_sentence)
