"""Embedding tables that are computed from other weights, so that two models share theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

# Computes rows from what a function returns for embeddings: their rows, or their whole tables.
Recipe = Callable[[Callable[[nn.Embedding], Tensor]], Tensor]


class SharedTable(nn.Module):
    """An embedding without weights of its own; it is saved with the table that it computes.

    Args:
        rows: the number of its rows.
        recipe: computes each row in the same way.
    """

    def __init__(self, rows: int, recipe: Recipe) -> None:
        super().__init__()
        self.num_embeddings, self.padding_idx = rows, None
        # It reads modules, not weights, which sharding replaces.
        self._recipe = recipe

    @property
    def weight(self) -> Tensor:
        return self._recipe(lambda table: table.weight)

    def forward(self, ids: Tensor) -> Tensor:
        if ids.numel() < self.num_embeddings:
            return self._recipe(lambda table: table(ids))
        return functional.embedding(ids, self.weight)

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        destination[f"{prefix}weight"] = self.weight.detach()

    def _load_from_state_dict(self, *_: Any) -> None:
        """Load nothing: the weights belong to other modules."""


class SharedDecoder(nn.Module):
    """The matrix over the vocabulary of a model whose embeddings are ``table``."""

    bias: Tensor | None

    def __init__(self, table: SharedTable, bias_V: nn.Parameter | None) -> None:
        super().__init__()
        # In a tuple, so that it is not registered as a module here too.
        self._table = (table,)
        self.register_parameter("bias", bias_V)

    @property
    def weight(self) -> Tensor:
        return self._table[0].weight

    def forward(self, hidden: Tensor) -> Tensor:
        return functional.linear(hidden, self.weight, self.bias)


def tables_of(model: Any) -> dict[str, nn.Embedding]:
    """Return the tables of tokens, positions and segments by their names in the encoder."""
    base = model.base_model
    words = model.get_input_embeddings()
    name = next(name for name, each in base.named_modules() if each is words)
    parent = name.rpartition(".")[0]
    children = base.get_submodule(parent).named_children()
    tables = {n: each for n, each in children if isinstance(each, nn.Embedding)}
    return {f"{parent}.{n}".lstrip("."): each for n, each in tables.items()}


def share_table(model: Any, name: str, table: SharedTable) -> None:
    """Replace a model's table, and the matrix over the vocabulary if that is tied to it."""
    decoder = model.get_output_embeddings()
    is_tied = decoder is not None and decoder.weight is model.base_model.get_submodule(name).weight
    model.base_model.set_submodule(name, table)
    if is_tied:
        place = next(n for n, each in model.named_modules() if each is decoder)
        model.set_submodule(place, SharedDecoder(table, decoder.bias))
