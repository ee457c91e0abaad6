"""Tokenizers and corpora that the tests of tokens share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bertexp.tokens.config import TokenizerConfig
from bertexp.tokens.tokenizer import WordPieceTokenizer, load_tokenizer

Load = Callable[..., WordPieceTokenizer]


@pytest.fixture(scope="session")
def load() -> Load:
    """Return a function that loads ``tokenizer=pretrained tokenizer.path=...``."""

    def from_path(path: Path | str, lowercase: bool = True) -> WordPieceTokenizer:
        config = TokenizerConfig(
            name="pretrained", vocab_size=8192, lowercase=lowercase, path=str(path)
        )
        return load_tokenizer(config)

    return from_path


@pytest.fixture(scope="session")
def real_tokenizer(load: Load, real_vocabulary: Path) -> WordPieceTokenizer:
    """The vocabulary of ``bert-base-uncased``, lower-cased."""
    return load(real_vocabulary)
