"""The inputs of a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor


class Tensors:
    """A dataclass with tensors among its fields."""

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Self:
        values = {each.name: getattr(self, each.name) for each in fields(self)}  # type: ignore[arg-type]
        changed = {name: change(v) for name, v in values.items() if isinstance(v, Tensor)}
        return replace(self, **changed)  # type: ignore[type-var]

    def to(self, device: torch.device) -> Self:
        return self.mapped(lambda tensor: tensor.to(device, non_blocking=True))


@dataclass(frozen=True, kw_only=True)
class Inputs(Tensors):
    """The inputs of a model, and the positions at which its last hidden states are used.

    Attributes:
        input_ids_BL: padded, ``int64``.
        attention_mask_BL: 1 for tokens, 0 for padding; None if nothing is padded.
        token_type_ids_BL: the segment of each token, 0 or 1; None if there is only one.
        queries_BP: the used positions of each sequence, padded with 0.
        slots_U: indices into the flattened ``queries_BP`` without its padding.
    """

    input_ids_BL: Tensor
    queries_BP: Tensor
    slots_U: Tensor
    attention_mask_BL: Tensor | None = None
    token_type_ids_BL: Tensor | None = None

    def at(self, positions_N: Tensor, ids_BL: Tensor) -> Inputs:
        """Return inputs with other tokens and other used positions.

        Args:
            positions_N: the used positions, as indices into the flattened batch.
        """
        column_L = torch.arange(ids_BL.shape[1], device=ids_BL.device)
        return Inputs(
            input_ids_BL=ids_BL,
            queries_BP=column_L.expand_as(ids_BL),
            slots_U=positions_N,
            attention_mask_BL=self.attention_mask_BL,
            token_type_ids_BL=self.token_type_ids_BL,
        )
