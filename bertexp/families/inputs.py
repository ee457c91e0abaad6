"""The inputs of a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor


class Tensors:
    """A dataclass with tensors among its fields."""

    def mapped(self, change: Callable[[Any], Any], kind: type = Tensor) -> Self:
        """Return a copy with ``change`` applied to the fields of a type, by default tensors."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}  # type: ignore[arg-type]
        changed = {name: change(v) for name, v in values.items() if isinstance(v, kind)}
        return replace(self, **changed)  # type: ignore[type-var]

    def to(self, device: torch.device) -> Self:
        return self.mapped(lambda tensor: tensor.to(device, non_blocking=True))


class Texts(NamedTuple):
    """The texts of a row without padding, each of which attends within itself.

    Attributes:
        offsets_S: the first token of each text, then the number of tokens, ``int32``. Texts may be
            empty.
        longest: at least the tokens of each.
    """

    offsets_S: Tensor
    longest: int

    def mask(self, tokens: int) -> Tensor:
        """Return whether a token (a row) attends to another, shape (1, 1, tokens, tokens)."""
        offsets_S = self.offsets_S
        numbers_T = torch.arange(tokens, dtype=offsets_S.dtype, device=offsets_S.device)
        text_T = torch.bucketize(numbers_T, offsets_S, right=True)
        return (text_T[:, None] == text_T)[None, None]


@dataclass(frozen=True, kw_only=True)
class Inputs(Tensors):
    """The inputs of a model, and the positions at which its last hidden states are used.

    Attributes:
        input_ids_BL: padded, ``int64``.
        attention_mask_BL: 1 for tokens, 0 for padding; None if nothing is padded.
        token_type_ids_BL: the segment of each token, 0 or 1; None if there is only one.
        causal_B: whether the positions of a sequence attend only to themselves and earlier ones;
            None if no sequence is causal.
        parts_BL: the number of the document that each token belongs to; positions attend only
            within their own. None if a sequence is one document.
        positions_BL: the position of each token, None for 0, 1, 2 ...
        kept_BK: the positions that no layer leaves out, in ascending order; None if none leaves
            any out, see ``BertLayers``.
        queries_BP: the used positions of each sequence, padded with 0.
        slots_U: indices into the flattened ``queries_BP`` without its padding.
        packed_T: the tokens without padding, or with little of it, as indices into the flattened
            batch; None if a family computes the padding too.
        offsets_S: where in ``packed_T`` each text begins, then its size, see ``Texts``; no text is
            longer than a row.
    """

    input_ids_BL: Tensor
    queries_BP: Tensor
    slots_U: Tensor
    attention_mask_BL: Tensor | None = None
    token_type_ids_BL: Tensor | None = None
    causal_B: Tensor | None = None
    parts_BL: Tensor | None = None
    positions_BL: Tensor | None = None
    kept_BK: Tensor | None = None
    packed_T: Tensor | None = None
    offsets_S: Tensor | None = None

    @property
    def real_BL(self) -> Tensor:
        """1 for tokens, 0 for padding."""
        mask_BL = self.attention_mask_BL
        return torch.ones_like(self.input_ids_BL) if mask_BL is None else mask_BL

    def at(self, positions_N: Tensor, ids_BL: Tensor) -> Inputs:
        """Return inputs with other tokens and other used positions.

        Args:
            positions_N: the used positions, as indices into the flattened batch.
        """
        column_L = torch.arange(ids_BL.shape[1], device=ids_BL.device)
        queries_BP = column_L.expand_as(ids_BL)
        own: Any = {each.name: getattr(self, each.name) for each in fields(Inputs)}
        own |= {"input_ids_BL": ids_BL, "queries_BP": queries_BP, "slots_U": positions_N}
        return Inputs(**own)

    def gathered(self, columns_BV: Tensor, found_BV: Tensor) -> Inputs:
        """Return inputs of some of the positions, all of them used.

        Args:
            columns_BV: the positions in ascending order; they keep their ``positions_BL``.
            found_BV: False where a sequence has fewer, and is padded.
        """
        positions_BL = self.positions_BL
        there = {
            name: each_BL.gather(1, columns_BV)
            for name in ("input_ids_BL", "token_type_ids_BL", "parts_BL")
            if (each_BL := getattr(self, name)) is not None
        }
        rows, width = columns_BV.shape
        column_V = torch.arange(width, device=columns_BV.device)
        return Inputs(
            **there,
            positions_BL=columns_BV if positions_BL is None else positions_BL.gather(1, columns_BV),
            attention_mask_BL=found_BV.long(),
            causal_B=self.causal_B,
            queries_BP=column_V.expand(rows, -1),
            slots_U=torch.arange(rows * width, device=columns_BV.device),
        )

    @property
    def row(self) -> dict[str, Any]:
        """The tokens of ``packed_T`` in one row, with their segments and positions."""
        at_T, positions_BL = self.packed_T, self.positions_BL
        assert at_T is not None
        if positions_BL is None:
            column_L = torch.arange(self.input_ids_BL.shape[1], device=at_T.device)
            positions_BL = column_L.expand_as(self.input_ids_BL)
        found = {
            "ids_BL": self.input_ids_BL,
            "types_BL": self.token_type_ids_BL,
            "positions_BL": positions_BL,
        }
        there = {name: each_BL for name, each_BL in found.items() if each_BL is not None}
        return {name: each_BL.flatten()[at_T][None] for name, each_BL in there.items()}

    @property
    def texts(self) -> Texts:
        """Those of ``packed_T``."""
        assert self.offsets_S is not None
        return Texts(self.offsets_S, self.input_ids_BL.shape[1])

    @property
    def mean_texts(self) -> tuple[int, float]:
        """The number of texts of ``packed_T``, empty ones too, and their mean length."""
        assert self.offsets_S is not None and self.packed_T is not None
        count = len(self.offsets_S) - 1
        return count, len(self.packed_T) / count

    @property
    def packed_slots_U(self) -> Tensor:
        """``slots_U`` as indices into ``packed_T``."""
        assert self.packed_T is not None
        rows, length = self.input_ids_BL.shape
        tokens_T = torch.arange(len(self.packed_T), device=self.packed_T.device)
        place_N = tokens_T.new_zeros(rows * length).scatter(0, self.packed_T, tokens_T)
        first_B1 = torch.arange(rows, device=self.packed_T.device)[:, None] * length
        return place_N[(first_B1 + self.queries_BP).flatten()[self.slots_U]]

    @property
    def attended_B1LL(self) -> Tensor | None:
        """Whether a position (a row) attends to another (a column); None if only padding matters.

        Padding attends to itself too: without anything to attend to, its states would be NaN.
        """
        if self.causal_B is None and self.parts_BL is None:
            return None
        length, device = self.input_ids_BL.shape[1], self.input_ids_BL.device
        column_L = torch.arange(length, device=device)
        attended_BLL = torch.ones((1, length, length), dtype=torch.bool, device=device)
        if self.causal_B is not None:
            earlier_LL = column_L <= column_L[:, None]
            attended_BLL = earlier_LL | ~self.causal_B[:, None, None]
        if self.parts_BL is not None:
            attended_BLL = attended_BLL & (self.parts_BL[:, :, None] == self.parts_BL[:, None])
        if self.attention_mask_BL is not None:
            attended_BLL = attended_BLL & self.attention_mask_BL[:, None].bool()
            attended_BLL = attended_BLL | (column_L == column_L[:, None])
        return attended_BLL[:, None]
