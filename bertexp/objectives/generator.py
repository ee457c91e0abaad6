"""The generator of replaced-token detection, and how it shares its embeddings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bertexp.families.base import Family
from bertexp.families.dropout import draw_masks_fast
from bertexp.families.initialization import keep_waves
from bertexp.families.inputs import Inputs
from bertexp.families.smaller import smaller_model
from bertexp.families.tables import Recipe, SharedTable, share_table, tables_of
from bertexp.objectives.config import RtdKeys

# For the plan, by ``task.rtd.embeddings``.
SHARING = {
    "tied": "the same in model and generator",
    "gdes": "the model's are the generator's plus its own",
    "none": "model and generator each have their own",
}


class Generator(nn.Module):
    """A small masked language model beside the model that detects what it replaced.

    Args:
        family: that of the model, whose embeddings change with ``gdes``: there they are the sum of
            the generator's, which their gradient does not reach, and of what the model adds.
        keys: ``task.rtd.*``.

    Attributes:
        model: the generator, a masked language model of ``transformers``.
        family: its family.
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
        draw_masks_fast(self.model)

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
            keep_waves(self.projection.weight)
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
