"""What ``model.*`` may say."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bertexp.keys import read_with
from bertexp.validation import UserError, require, require_choice

# More is a slip, which would only be noticed when the memory is full.
MOST = {
    "hidden_size": 2**20,
    "num_hidden_layers": 10_000,
    "num_attention_heads": 2**20,
    "intermediate_size": 2**20,
    "max_position_embeddings": 2**20,
}


@dataclass(kw_only=True)
class ModelConfig:
    """The size of a BERT trained from scratch, or the checkpoint to go on from.

    With ``pretrained`` set, the sizes and dropout are the checkpoint's, and of the other keys only
    ``name`` and ``resize`` are read.
    """

    name: str
    pretrained: str | None
    resize: bool = read_with("model.pretrained")
    hidden_size: int = read_with("model.pretrained", None)
    num_hidden_layers: int = read_with("model.pretrained", None)
    num_attention_heads: int = read_with("model.pretrained", None)
    intermediate_size: int = read_with("model.pretrained", None)
    max_position_embeddings: int = read_with("model.pretrained", None)
    dropout: float = read_with("model.pretrained", None)
    initializer_range: float = read_with("model.pretrained", None)
    initialization: str = read_with("model.pretrained", None)

    def __post_init__(self) -> None:
        for key, most in MOST.items():
            size = getattr(self, key)
            require(1 <= size <= most, f"model.{key}", size, f"at least 1 and at most {most:,}")
        if self.hidden_size % self.num_attention_heads:
            raise UserError(
                f"model.hidden_size={self.hidden_size}: must be divisible by "
                f"model.num_attention_heads={self.num_attention_heads}."
            )
        require(0 <= self.dropout < 1, "model.dropout", self.dropout, "at least 0 and below 1")
        deviation = self.initializer_range
        allowed = "above 0 and finite"
        require(0 < deviation < math.inf, "model.initializer_range", deviation, allowed)
        require_choice("model.initialization", self.initialization, ("local", "bert"))
        if self.name == "pretrained" and not self.pretrained:
            raise UserError(
                "model.pretrained is not set: model=pretrained needs a local folder or a Hub name."
            )
