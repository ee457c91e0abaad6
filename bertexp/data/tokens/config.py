"""What ``tokenizer.*`` may say."""

from __future__ import annotations

from dataclasses import dataclass

from bertexp.keys import read_with
from bertexp.validation import require, require_choice


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
