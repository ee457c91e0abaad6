"""Tokenizers and corpora that the tests of tokens share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bertexp.data.tokens.config import TokenizerConfig
from bertexp.data.tokens.encoding import TextEncoder
from bertexp.data.tokens.saved import load_tokenizer
from bertexp.data.tokens.spool import join, spool
from bertexp.data.tokens.tokenizer import Tokenizer

Load = Callable[..., Tokenizer]


@pytest.fixture(scope="session")
def load() -> Load:
    """Return a function that loads ``tokenizer=pretrained tokenizer.path=...``."""

    def from_path(path: Path | str, lowercase: bool = True) -> Tokenizer:
        config = TokenizerConfig(
            name="pretrained",
            vocab_size=8192,
            lowercase=lowercase,
            strip_accents=None,
            path=str(path),
        )
        return load_tokenizer(config)

    return from_path


@pytest.fixture(scope="session")
def write_tokens() -> Callable[..., None]:
    """Return a function that writes documents, paragraphs of sentences, as a token store does."""

    def write(
        path: Path,
        documents: list[list[list[str]]],
        tokenizer: Tokenizer,
        dtype: type,
        shards: int = 1,
    ) -> None:
        encoder = TextEncoder(tokenizer, np.dtype(dtype))
        places = [path.with_name(f"shard-{number}") for number in range(shards)]
        size = -(-len(documents) // shards)
        for number, place in enumerate(places):
            spool(place, documents[number * size : (number + 1) * size], encoder)
        join(places, path, np.dtype(dtype))

    return write


@pytest.fixture(scope="session")
def real_tokenizer(load: Load, real_vocabulary: Path) -> Tokenizer:
    """The vocabulary of ``bert-base-uncased``, lower-cased."""
    return load(real_vocabulary)
