"""Tokenizers trained on the training documents of a corpus, and cached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer as Backend

from bertexp.data.cache import cached
from bertexp.data.config import TokenizerConfig
from bertexp.data.corpora.corpus import CorpusStore
from bertexp.data.tokens.subwords import train_bpe, train_unigram
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.data.tokens.wordpiece import train_wordpiece

# By `tokenizer.name`: the function that trains it, and a version, incremented whenever the same
# text would give another vocabulary.
TRAINERS: dict[str, tuple[Callable[..., Backend], int]] = {
    "wordpiece": (train_wordpiece, 3),
    "bpe": (train_bpe, 1),
    "unigram": (train_unigram, 2),
}


def train_tokenizer(config: TokenizerConfig, corpus: CorpusStore) -> Tokenizer:
    """Return a tokenizer trained on the corpus's training documents, or the cached one.

    The same texts give the same vocabulary in every process.
    """
    train, version = TRAINERS[config.name]
    settings = {
        "vocab_size": config.vocab_size,
        "lowercase": config.lowercase,
        "strip_accents": config.strip_accents,
    }
    key = {"format": version, "corpus": corpus.fingerprint, **settings}
    if config.name != "wordpiece":  # keeps the cache of when it was the only one
        key["kind"] = config.name

    def build(folder: Path) -> None:
        train(_Paragraphs(corpus), **settings).save(str(folder / "tokenizer.json"))

    folder = cached("tokenizer", key, build)
    return Tokenizer(Backend.from_file(str(folder / "tokenizer.json")))


@dataclass(frozen=True)
class _Paragraphs:
    corpus: CorpusStore

    def __iter__(self) -> Iterator[str]:
        for document in self.corpus.documents("train"):
            yield from document.paragraphs
