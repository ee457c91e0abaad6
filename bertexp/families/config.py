"""What ``model.*`` and ``family.*`` may be set to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import psutil

from bertexp.families import FAMILIES
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


# In float32: the weights; and with them their gradients and Adam's two moments.
LOADED, TRAINED = 4, 16


@dataclass(kw_only=True)
class FamilyConfig:
    """The kind of encoder; a checkpoint has its own."""

    name: str

    def __post_init__(self) -> None:
        FAMILIES.check(self.name)


@dataclass(kw_only=True)
class ModelConfig:
    """The size of a model trained from scratch, or the checkpoint to train further.

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

    def check_memory(self, vocab_size: int, bytes_each: int) -> None:
        """Refuse a model whose parameters alone are more than all memory there is.

        Args:
            vocab_size: words in the embedding table; 0 where they are not known yet.
            bytes_each: for each parameter, ``LOADED`` or ``TRAINED``.

        Raises:
            UserError: it does not fit.
        """
        hidden = self.hidden_size
        layer = 4 * hidden * hidden + 2 * hidden * self.intermediate_size
        rows = vocab_size + self.max_position_embeddings
        needed = bytes_each * (self.num_hidden_layers * layer + rows * hidden)
        if needed > (there := psutil.virtual_memory().total):
            raise UserError(
                f"model.hidden_size={hidden}, model.num_hidden_layers={self.num_hidden_layers}: "
                f"must be less; the model needs at least {needed / 1e9:,.0f} GB, this machine has "
                f"{there / 1e9:,.0f} GB."
            )
