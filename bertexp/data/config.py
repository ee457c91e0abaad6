"""The keys of ``dataset.*`` and ``tokenizer.*``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bertexp.data.corpora import CORPORA
from bertexp.keys import key
from bertexp.validation import require

TEXTS = ("plain", "wrapped", "lines", "wikitext")
TABLES = ("csv", "tsv", "json", "jsonl", "parquet", "arrow")
FORMATS = ("auto", *TEXTS, *TABLES)
# How paragraphs are split into sentences.
SENTENCE_METHODS = ("sentencex", "period")
# At eight bytes each, most of a gigabyte.
MOST_TRANSITIONS = 100_000_000

# Tokenizers that are trained on the corpus.
TRAINED = ("wordpiece", "bpe", "unigram")
BYTES_AND_SPECIAL = 256 + 5


@dataclass(kw_only=True)
class HubConfig:
    """Where ``datasets.load_dataset`` finds a corpus: its path, configuration and splits."""

    path: str | None
    config: str | None
    train: str
    validation: str | None


@CORPORA.own_keys("synthetic")
@dataclass(kw_only=True)
class SyntheticKeys:
    """The size of the generated corpus: see ``bertexp.data.corpora.synthetic``."""

    documents: int = key(2000, within="[2, inf)", about="How many, of 250 words each.")
    topics: int = key(8, within="[1, inf)", about="Each document has one.")
    words: int = key(64, within="[4, inf)", about="The vocabulary, all topics together.")
    concentration: float = key(
        0.05, within="(0, inf)", about="Smaller: fewer words are likely to follow a word."
    )

    def __post_init__(self) -> None:
        require(
            self.topics * self.words**2 <= MOST_TRANSITIONS,
            "dataset.synthetic.words",
            self.words,
            f"less: topics times words squared may be {MOST_TRANSITIONS:,} at most",
        )


@dataclass(kw_only=True)
class DatasetConfig:
    """The documents of a run.

    ``name`` selects the builder; the other keys set what it reads and how, how documents are split
    into training and validation, and whether they are stored first.
    """

    name: str
    files: list[str]
    format: str = key(choices=FORMATS)
    column: Any  # a name, or a list of several
    errors: str = key(choices=("strict", "replace"))
    packages: list[str]
    language: str
    validation_fraction: float = key(within="(0, 1)", read_with=("dataset.hub.validation", None))
    max_documents: int | None = key(within="[2, inf)")
    streaming: bool
    shuffle_buffer: int = key(within="[2, inf)", read_with=("dataset.streaming", True))
    head_documents: int = key(within="[2, inf)", read_with=("dataset.streaming", True))
    hub: HubConfig

    @property
    def columns(self) -> list[str]:
        return self.column if isinstance(self.column, list) else [self.column]

    def __post_init__(self) -> None:
        if isinstance(self.files, str):
            self.files = [self.files]
        are_names = bool(self.columns) and all(isinstance(name, str) for name in self.columns)
        require(are_names, "dataset.column", self.column, "a column's name, or a list of several")


@dataclass(kw_only=True)
class TokenizerConfig:
    """The tokenizer of a run: trained on the corpus, or an existing one."""

    name: str = key(choices=(*TRAINED, "pretrained"))
    vocab_size: int = key(within="[64, 1000000]", read_with=("tokenizer.name", *TRAINED))
    lowercase: bool
    strip_accents: bool | None
    path: str | None = key(read_with=("tokenizer.name", "pretrained"))

    def __post_init__(self) -> None:
        least = BYTES_AND_SPECIAL if self.name == "bpe" else 0
        allowed = f"at least {least} with tokenizer=bpe: 256 bytes and 5 special tokens"
        require(self.vocab_size >= least, "tokenizer.vocab_size", self.vocab_size, allowed)
