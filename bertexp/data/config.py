"""What ``dataset.*`` and ``tokenizer.*`` may be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from bertexp.keys import read_with
from bertexp.validation import require, require_choice

TEXTS = ("plain", "wrapped", "lines", "wikitext")
TABLES = ("csv", "tsv", "json", "jsonl", "parquet", "arrow")
FORMATS = ("auto", *TEXTS, *TABLES)
# A transition takes eight bytes, so this is most of a gigabyte.
MOST_TRANSITIONS = 100_000_000


@dataclass(kw_only=True)
class HubConfig:
    """Where ``datasets.load_dataset`` finds a corpus: its path, configuration and splits."""

    path: str | None
    config: str | None
    train: str
    validation: str | None


@dataclass(kw_only=True)
class SyntheticConfig:
    """The size of the generated corpus: see ``bertexp.data.corpora.synthetic``."""

    documents: int
    topics: int
    words: int
    concentration: float

    def __post_init__(self) -> None:
        require(self.documents >= 2, "dataset.synthetic.documents", self.documents, "at least 2")
        require(self.topics >= 1, "dataset.synthetic.topics", self.topics, "at least 1")
        require(self.words >= 4, "dataset.synthetic.words", self.words, "at least 4")
        require(
            0 < self.concentration < math.inf,
            "dataset.synthetic.concentration",
            self.concentration,
            "above 0 and finite",
        )
        require(
            self.topics * self.words**2 <= MOST_TRANSITIONS,
            "dataset.synthetic.words",
            self.words,
            f"less: topics times words squared may be {MOST_TRANSITIONS:,} at most",
        )


@dataclass(kw_only=True)
class DatasetConfig:
    """Which documents a run reads.

    ``name`` selects the builder; the other keys say where it reads and how, how the
    documents are parted into training and validation, and whether they are stored first.
    """

    name: str
    files: list[str]
    format: str
    column: Any  # a name, or a list of several
    errors: str
    packages: list[str]
    language: str
    validation_fraction: float = read_with("dataset.hub.validation", None)
    max_documents: int | None
    streaming: bool
    shuffle_buffer: int = read_with("dataset.streaming", True)
    head_documents: int = read_with("dataset.streaming", True)
    hub: HubConfig
    synthetic: SyntheticConfig

    @property
    def columns(self) -> list[str]:
        """The columns that have the text, in the order in which a document has them."""
        return self.column if isinstance(self.column, list) else [self.column]

    def __post_init__(self) -> None:
        if isinstance(self.files, str):
            self.files = [self.files]
        are_names = bool(self.columns) and all(isinstance(name, str) for name in self.columns)
        require(are_names, "dataset.column", self.column, "a column's name, or a list of several")
        require_choice("dataset.format", self.format, FORMATS)
        require_choice("dataset.errors", self.errors, ("strict", "replace"))
        require(
            0 < self.validation_fraction < 1,
            "dataset.validation_fraction",
            self.validation_fraction,
            "between 0 and 1, both excluded",
        )
        require(
            self.max_documents is None or self.max_documents >= 2,
            "dataset.max_documents",
            self.max_documents,
            "at least 2 (one to train on, one to validate on), or null for all",
        )
        for key in ("shuffle_buffer", "head_documents"):
            require(getattr(self, key) >= 2, f"dataset.{key}", getattr(self, key), "at least 2")


@dataclass(kw_only=True)
class TokenizerConfig:
    """Which vocabulary cuts the text: one trained on the corpus, or one that exists."""

    name: str
    vocab_size: int = read_with("tokenizer.name", "wordpiece")
    lowercase: bool
    strip_accents: bool | None
    path: str | None = read_with("tokenizer.name", "pretrained")

    def __post_init__(self) -> None:
        require_choice("tokenizer.name", self.name, ("wordpiece", "pretrained"))
        require(
            64 <= self.vocab_size <= 1_000_000,
            "tokenizer.vocab_size",
            self.vocab_size,
            "between 64 and 1000000",
        )
