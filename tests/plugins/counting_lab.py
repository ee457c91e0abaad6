"""A corpus of one's own: people who count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass

from bertexp.data.cache import fingerprint
from bertexp.data.config import DatasetConfig
from bertexp.data.corpora import CORPORA, Corpus, Document
from bertexp.keys import key

NAMES = ("Ada", "Bert", "Cleo", "Dora", "Emil")
WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(kw_only=True)
class CountingKeys:
    """``dataset.counting.*``."""

    documents: int = key(100, within="[2, 10000]", about="How many there are.")


@CORPORA.register("counting", keys=CountingKeys)
class CountingCorpus(Corpus):
    """Documents of ten sentences each."""

    def __init__(self, config: DatasetConfig) -> None:
        self._keys = CORPORA.keys_of(config, CountingKeys)

    def fingerprint(self) -> str:
        return fingerprint(["counting", 1, astuple(self._keys)])

    def documents(self) -> Iterator[Document]:
        for number in range(self._keys.documents):
            sentences = [
                f"{NAMES[(number + i) % 5]} counts from {WORDS[number % 10]} to {WORDS[i]}."
                for i in range(10)
            ]
            yield Document(f"count {number}", [" ".join(sentences[:5]), " ".join(sentences[5:])])
