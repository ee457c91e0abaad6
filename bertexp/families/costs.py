"""The cost of an encoder: its matrix products, counted by torch in a model without weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bertexp.families.architecture import quiet


@dataclass(frozen=True)
class Part:
    """A part of a model.

    Attributes:
        module: holds its weights; shared weights are counted with the first part that has them.
        products: multiply-adds of the forward pass: for the encoder per token, if every position
            is computed, for a head per prediction.
        is_head: whether models for other tasks lack it.
    """

    name: str
    module: nn.Module
    products: int = 0
    is_head: bool = False


@dataclass(frozen=True)
class Costs:
    """Multiply-adds of an encoder per token, per pair of tokens and per batch."""

    token: float
    pair: float
    batch: float

    @classmethod
    def of(cls, base: Any) -> Costs:
        """Count the multiply-adds of an encoder on the device ``meta``."""
        # It would read the ids to look for padding, and on meta they have no values.
        base.eval().warn_if_padding_and_no_attention_mask = lambda *_: None

        def count(examples: int, length: int) -> int:
            ids_BL = torch.zeros(examples, length, dtype=torch.long, device="meta")
            return products_of(base, ids_BL)

        try:
            with quiet():
                short, long, twice = count(1, 8), count(1, 16), count(2, 16)
        except RuntimeError:  # the model reads values of a mask, which do not exist on meta
            return cls._of_layers(base.config)
        batch = 2 * long - twice
        short, long = short - batch, long - batch
        pair = (long - 2 * short) / 128
        return cls((short - 64 * pair) / 8, pair, batch)

    @classmethod
    def _of_layers(cls, config: Any) -> Costs:
        """Return the multiply-adds of layers like BERT's."""
        layers, hidden = config.num_hidden_layers, config.hidden_size
        return cls(
            layers * hidden * (4 * hidden + 2 * config.intermediate_size), 2 * layers * hidden, 0
        )

    def products(self, examples: int, length: float) -> float:
        """Return the multiply-adds of a forward pass."""
        return examples * length * (self.token + length * self.pair) + self.batch


@torch.no_grad()
def products_of(function: Callable[[Tensor], Any], given: Tensor) -> int:
    """Return the multiply-adds of a function's matrix products."""
    with FlopCounterMode(display=False) as counter:
        function(given)
    return int(counter.get_total_flops()) // 2
