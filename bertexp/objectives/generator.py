"""The generator of replaced-token detection, and the embedding tables that it shares."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertexp.families.base import MASKED, Family
from bertexp.families.config import ModelConfig
from bertexp.families.dropout import use_fast_dropout
from bertexp.families.heads import name_of
from bertexp.families.initialization import keep_sinusoids
from bertexp.families.inputs import Inputs
from bertexp.objectives.config import RtdKeys

# For the plan, by ``task.rtd.embeddings``.
SHARING = {
    "tied": "the same in model and generator",
    "gdes": "the model's are the generator's plus its own",
    "none": "model and generator each have their own",
}
# Computes rows from what a function returns for embeddings: their rows, or their whole tables.
Recipe = Callable[[Callable[[nn.Embedding], Tensor]], Tensor]


class Generator(nn.Module):
    """A small masked language model beside the model that detects what it replaced.

    Args:
        family: that of the model, whose embeddings change with ``gdes``: there they are the sum of
            the generator's, which their gradient does not reach, and of what the model adds.

    Attributes:
        model: the generator, a masked language model of ``transformers``.
        projection: from the width of shared embeddings to the generator's, if they differ.
        tables, added: with ``gdes``, the generator's embeddings and what the model adds to them.
    """

    def __init__(self, family: Family, keys: RtdKeys) -> None:
        super().__init__()
        shares = keys.embeddings != "none"
        self.model: Any = smaller_model(family, keys.generator, keys.depth, shares)
        self.family = Family.of(self.model)
        self.projection: nn.Linear | None = None
        self.tables, self.added = nn.ModuleList(), nn.ModuleList()
        self._shared: list[str] = []
        if shares:
            self._share(family, is_disentangled=keys.embeddings == "gdes")
        use_fast_dropout(self.model)

    def _share(self, family: Family, is_disentangled: bool) -> None:
        own = tables_of(self.model)
        for name, table in tables_of(family.model).items():
            if name not in own or own[name].num_embeddings != table.num_embeddings:
                continue
            if is_disentangled:
                table = self._disentangle(family, name, table)
            self._shared.append(name)
            recipe = self._projected(table, own[name].embedding_dim)
            share_table(self.model, name, SharedTable(table.num_embeddings, recipe))

    def _disentangle(self, family: Family, name: str, table: nn.Embedding) -> nn.Embedding:
        """Give the model a sum for its table; returns the generator's own, which begins as it."""
        added = nn.Embedding(table.num_embeddings, table.embedding_dim, table.padding_idx)
        nn.init.zeros_(added.weight)
        self.tables.append(table)
        self.added.append(added)
        recipe: Recipe = lambda read: read(table).detach() + read(added)  # noqa: E731
        share_table(family.model, name, SharedTable(table.num_embeddings, recipe))
        return table

    def _projected(self, table: nn.Embedding, width: int) -> Recipe:
        if width == table.embedding_dim:
            return lambda read: read(table)
        if self.projection is None:
            self.projection = nn.Linear(table.embedding_dim, width, bias=False)
            keep_sinusoids(self.projection.weight)
        projection = self.projection
        return lambda read: projection(read(table))

    def products(self, inputs: Inputs, predictions: int) -> float:
        """Return the multiply-adds of encoding and predicting, with projected embeddings."""
        config = self.model.config
        head = self.family.head_products(config.vocab_size)
        found = self.family.products(inputs) + predictions * head
        if self.projection is not None:
            examples, length = inputs.input_ids_BL.shape
            # The words, as input and as output; the positions; a handful of segments.
            rows = min(examples * length, config.vocab_size) + config.vocab_size
            rows += length * (len(self._shared) > 1) + 2 * (len(self._shared) > 2)
            found += rows * self.projection.weight.numel()
        return found


@torch.no_grad()
def draw(logits_NV: Tensor, chances_N: Tensor) -> Tensor:
    """Return a token of each row's distribution, shape (N,): the inverse of its sums at a chance.

    A uniform number for each token is enough, where Gumbel noise takes one for each word.
    """
    sums_NV = logits_NV.softmax(-1).cumsum(-1)
    places_N1 = (chances_N.to(sums_NV.dtype) * sums_NV[:, -1])[:, None]
    drawn_N = torch.searchsorted(sums_NV, places_N1, right=True).squeeze(1)
    return drawn_N.clamp(max=logits_NV.shape[1] - 1)


def smaller_model(family: Family, width: float, depth: float, shares_tables: bool) -> Any:
    """Return a new masked language model, drawn from the global generator.

    Args:
        family: that of the larger model.
        width: its share of the width, of the heads and of the feed-forward width.
        depth: its share of the layers.
        shares_tables: whether its embeddings will be those of the larger model: where the family
            can project embeddings to its width, they stay as wide.
    """
    known = family.config
    config = family.describe(_sizes(family, width, depth), known.vocab_size, known.pad_token_id)
    if shares_tables and hasattr(config, "embedding_size"):
        config.embedding_size = known.embedding_size
    model = family.build(config, frozenset({MASKED}))
    found = Family.of(model)
    found.initialize(family.initialization)
    found.check()
    own = family.model.get_input_embeddings()
    model.get_input_embeddings().padding_idx = own.padding_idx
    return model


def _sizes(family: Family, width: float, depth: float) -> ModelConfig:
    """Return the sizes of a smaller model; its heads have an even width."""
    config = family.config
    heads = max(1, round(width * config.num_attention_heads))
    hidden = 2 * heads * max(1, round(width * config.hidden_size / heads / 2))
    deviation = config.initializer_range * math.sqrt(config.hidden_size / hidden)
    return ModelConfig(
        name="smaller",
        pretrained=None,
        resize=False,
        hidden_size=hidden,
        num_hidden_layers=max(1, round(depth * config.num_hidden_layers)),
        num_attention_heads=heads,
        intermediate_size=max(1, round(width * getattr(config, family.feed_forward))),
        max_position_embeddings=family.positions(config),
        dropout=getattr(config, family.dropouts()[0], 0.0) if family.dropouts() else 0.0,
        initializer_range=deviation,
        initialization=family.initialization,
    )


class SharedTable(nn.Module):
    """An embedding without weights of its own; it is saved with the table that it computes."""

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
    parent = name_of(model.get_input_embeddings(), base).rpartition(".")[0]
    children = base.get_submodule(parent).named_children()
    tables = {n: each for n, each in children if isinstance(each, nn.Embedding)}
    return {f"{parent}.{n}".lstrip("."): each for n, each in tables.items()}


def share_table(model: Any, name: str, table: SharedTable) -> None:
    """Replace a model's table, and the matrix over the vocabulary if that is tied to it."""
    decoder = model.get_output_embeddings()
    is_tied = decoder is not None and decoder.weight is model.base_model.get_submodule(name).weight
    model.base_model.set_submodule(name, table)
    if is_tied:
        model.set_submodule(name_of(decoder, model), SharedDecoder(table, decoder.bias))
