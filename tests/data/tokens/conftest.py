"""Tokenizers and corpora that the tests of tokens share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bertexp.data.tokens.encoding import TextEncoder
from bertexp.data.tokens.saved import open_tokenizer
from bertexp.data.tokens.store import TokenStore, join_shards, write_shard
from bertexp.data.tokens.tokenizer import Tokenizer

Load = Callable[..., Tokenizer]


@pytest.fixture(scope="session")
def load() -> Load:
    """Return a function that loads ``tokenizer=pretrained tokenizer.path=...``."""

    def from_path(path: Path | str, lowercase: bool = True) -> Tokenizer:
        return open_tokenizer(str(path), "tokenizer.path", lowercase)

    return from_path


@pytest.fixture(scope="session")
def store_tokens() -> Callable[..., TokenStore]:
    """Return a function that stores documents, paragraphs of sentences, as tokens of a split."""

    def store(
        folder: Path, documents: list[list[list[str]]], tokenizer: Tokenizer, shards: int = 1
    ) -> TokenStore:
        encoder = TextEncoder(tokenizer)
        places = [folder / f"shard-{number}" for number in range(shards)]
        size = -(-len(documents) // shards)
        for number, place in enumerate(places):
            place.mkdir()
            write_shard(place, "train", documents[number * size : (number + 1) * size], encoder)
        join_shards(places, folder, "train", encoder.dtype)
        return TokenStore.open(folder, "train", "a-test")

    return store


@pytest.fixture(scope="session")
def real_tokenizer(load: Load, real_vocabulary: Path) -> Tokenizer:
    """The vocabulary of ``bert-base-uncased``, lower-cased."""
    return load(real_vocabulary)
