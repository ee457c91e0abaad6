"""The keys of ``model.*`` and ``family.*``."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from bertexp.families import FAMILIES
from bertexp.keys import key
from bertexp.validation import UserError

# Larger sizes are typing errors, which would only be noticed when memory runs out.
SIZE = "[1, 1048576]"
# A checkpoint has its own values of these keys.
SCRATCH = ("model.pretrained", None)
# Bytes per parameter in float32: the weights alone, and with gradients and Adam's two moments.
LOADED, TRAINED = 4, 16


@dataclass(kw_only=True)
class FamilyConfig:
    """The kind of encoder to train from scratch; a checkpoint has its own."""

    name: str

    def __post_init__(self) -> None:
        FAMILIES.check(self.name)


@dataclass(kw_only=True)
class ModelConfig:
    """The size of a model trained from scratch, or the checkpoint to train further.

    With ``pretrained`` set, the sizes and dropout are the checkpoint's, and only ``name`` and
    ``resize`` are read of the other keys.
    """

    name: str
    pretrained: str | None
    resize: bool = key(read_with=("model.pretrained",))
    hidden_size: int = key(within=SIZE, read_with=SCRATCH)
    num_hidden_layers: int = key(within="[1, 10000]", read_with=SCRATCH)
    num_attention_heads: int = key(within=SIZE, read_with=SCRATCH)
    intermediate_size: int = key(within=SIZE, read_with=SCRATCH)
    max_position_embeddings: int = key(within=SIZE, read_with=SCRATCH)
    dropout: float = key(within="[0, 1)", read_with=SCRATCH)
    initializer_range: float = key(within="(0, inf)", read_with=SCRATCH)
    initialization: str = key(choices=("local", "bert"), read_with=SCRATCH)

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise UserError(
                f"model.hidden_size={self.hidden_size}: must be divisible by "
                f"model.num_attention_heads={self.num_attention_heads}."
            )
        if self.name == "pretrained" and not self.pretrained:
            raise UserError(
                "model.pretrained is not set: model=pretrained needs a local folder or a Hub name."
            )

    def check_memory(self, vocab_size: int, bytes_each: int) -> None:
        """Raise a ``UserError`` if the parameters alone exceed the machine's memory.

        A ``vocab_size`` of 0 is not known yet; ``bytes_each`` is ``LOADED`` or ``TRAINED``.
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
