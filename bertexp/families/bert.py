"""BERT (Devlin et al. 2019), with a fast path: its last layer computes used positions only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bertexp.families import FAMILIES
from bertexp.families.attention import attend
from bertexp.families.base import LABEL, MASKED, PAIR, Family
from bertexp.families.costs import Part
from bertexp.families.initialization import look_at_neighbours
from bertexp.families.inputs import Inputs

# The most programs that torch compiles of one function.
PROGRAMS = 8
# Computes the output of a ``BertLayer`` at all positions, see ``whole_layer``.
Layer = Callable[[Any, Tensor, Tensor | None], Tensor]


class BertLayers(Family):
    """A family with BERT's layers; ``encode`` has ``transformers``' results, but is faster.

    After the last layer's keys and values nothing mixes positions, so its queries and everything
    after them are computed at used positions only. This saves a third of a two-layer model's work.

    With ``Inputs.kept_BK`` the others leave out tokens as in Hou et al. 2022, "Token dropping for
    efficient BERT pretraining", and their code: of 12 layers the first 5 compute all positions, the
    6th the kept ones, which still attend to all, the 7th to 11th the kept ones alone, and the last
    one all again, with the others as the 5th left them.
    """

    compiles = True

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._train_layer: Layer = whole_layer

    def initialize(self, how: str) -> None:
        if how == "local":
            look_at_neighbours(self.base)

    def encode(self, inputs: Inputs) -> Tensor:
        run_layer = self._train_layer if self.model.training else whole_layer
        mask = inputs.attended_B1LL
        is_whole = mask is None  # whether all positions attend to the same ones
        if is_whole and inputs.attention_mask_BL is not None:
            mask = inputs.attention_mask_BL[:, None, None, :].bool()
        types_BL, positions_BL = inputs.token_type_ids_BL, inputs.positions_BL
        hidden_BLD = self.embed(
            self.arguments(inputs.input_ids_BL, types_BL=types_BL, positions_BL=positions_BL)
        )
        *layers, last = self.base.encoder.layer
        dropping = layers[self.whole_layers :] if inputs.kept_BK is not None else []
        for layer in layers[: len(layers) - len(dropping)]:
            hidden_BLD = run_layer(layer, hidden_BLD, mask)
        if inputs.kept_BK is not None:
            hidden_BLD = run_on_some(dropping, hidden_BLD, mask, inputs.kept_BK, run_layer)
        rows_B1 = torch.arange(len(hidden_BLD), device=hidden_BLD.device)[:, None]
        queried_BPD = hidden_BLD[rows_B1, inputs.queries_BP]
        if mask is not None and not is_whole:
            mask = mask.expand(len(hidden_BLD), -1, -1, -1)[rows_B1, 0, inputs.queries_BP][:, None]
        context_BPD = attend(last.attention.self, queried_BPD, hidden_BLD, mask)
        context_UD, queried_UD = (
            each_BPD.flatten(0, 1)[inputs.slots_U] for each_BPD in (context_BPD, queried_BPD)
        )
        return _read(last, context_UD, queried_UD)

    @property
    def whole_layers(self) -> int:
        """The number of layers that compute all positions before some do only ``kept_BK``."""
        return int(self.config.num_hidden_layers) // 2 - 1

    def embed(self, ids: dict[str, Any]) -> Tensor:
        """Return the input of the first layer."""
        hidden_BLD: Tensor = self.base.embeddings(**ids)
        return hidden_BLD

    def layer_products(self, length: int) -> int:
        """Return the multiply-adds of one layer per token, matrix products only."""
        hidden, inner = self.config.hidden_size, self.config.intermediate_size
        return int(4 * hidden * hidden + 2 * length * hidden + 2 * hidden * inner)

    def products(self, inputs: Inputs) -> float:
        hidden, length = self.config.hidden_size, inputs.input_ids_BL.shape[1]
        tokens, queries = inputs.input_ids_BL.numel(), inputs.queries_BP.numel()
        # Keys and values; queries and attention; the output projection and the feed-forward.
        last = (
            (tokens, 2 * hidden * hidden),
            (queries, hidden * (hidden + 2 * length)),
            (len(inputs.slots_U), hidden * (hidden + 2 * self.config.intermediate_size)),
        )
        others = (self.config.num_hidden_layers - 1) * tokens * self.layer_products(length)
        if inputs.kept_BK is not None:
            kept, fewer = inputs.kept_BK.numel(), inputs.kept_BK.shape[1]
            dropping = self.config.num_hidden_layers - 1 - self.whole_layers
            # The first of them has keys and values of all positions.
            others = self.whole_layers * tokens * self.layer_products(length)
            others += kept * (self.layer_products(length) - 2 * hidden * hidden)
            others += tokens * 2 * hidden * hidden
            others += (dropping - 1) * kept * self.layer_products(fewer)
        return float(others + sum(count * each for count, each in last))

    def head_products(self, classes: int) -> int:
        # A square matrix, then the classes.
        return int(self.config.hidden_size * (self.config.hidden_size + classes))

    def parts(self, length: int) -> list[Part]:
        embeddings = self.base.embeddings
        encoder = self.config.num_hidden_layers * self.layer_products(length)
        square = self.config.hidden_size * self.config.hidden_size
        found = [
            Part("word embeddings", embeddings.word_embeddings),
            Part("position embeddings", embeddings.position_embeddings),
            Part("segment embeddings", embeddings.token_type_embeddings),
            Part("embeddings' normalisation", embeddings.LayerNorm),
            Part("encoder", self.base.encoder, encoder),
        ]
        if getattr(self.base, "pooler", None) is not None:
            found.append(Part("pooler", self.base.pooler, square, is_head=True))
        if MASKED in self.heads:
            products = self.head_products(self.config.vocab_size)
            found.append(Part("masked tokens' head", self.masked_head, products, is_head=True))
        return found

    def compile(self, shapes: frozenset[tuple[int, int]]) -> None:
        self._train_layer = CompiledLayer(shapes)


@FAMILIES.register("bert", reads=("model.initialization",))
class Bert(BertLayers):
    """BERT, which has heads for masked tokens and for pairs, each alone or both."""

    name = "bert"

    @classmethod
    def classes(cls) -> dict[frozenset[str], str]:
        return {
            frozenset(): "BertModel",
            frozenset({MASKED}): "BertForMaskedLM",
            frozenset({PAIR}): "BertForNextSentencePrediction",
            frozenset({MASKED, PAIR}): "BertForPreTraining",
            frozenset({LABEL}): "BertForSequenceClassification",
        }

    def transform(self, hidden_MD: Tensor) -> Tensor:
        transformed_MD: Tensor = self.model.cls.predictions.transform(hidden_MD)
        return transformed_MD

    def pair_logits(self, first_BD: Tensor) -> Tensor:
        # The pooler reads only the first position of each sequence.
        pooled_BD = self.base.pooler(first_BD[:, None])
        logits_B2: Tensor = self.model.cls.seq_relationship(pooled_BD)
        return logits_B2

    def parts(self, length: int) -> list[Part]:
        found = super().parts(length)
        if PAIR in self.heads:
            head, products = self.model.cls.seq_relationship, 2 * self.config.hidden_size
            found.append(Part("pairs' head", head, products, is_head=True))
        return found


def whole_layer(layer: Any, hidden_BLD: Tensor, mask: Tensor | None) -> Tensor:
    """Return the output of a ``BertLayer`` at all positions, see ``attend``."""
    context_BLD = attend(layer.attention.self, hidden_BLD, hidden_BLD, mask)
    return _read(layer, context_BLD, hidden_BLD)


def run_on_some(
    layers: Sequence[Any], hidden_BLD: Tensor, mask: Tensor | None, kept_BK: Tensor, run: Layer
) -> Tensor:
    """Return the states at all positions, of which the layers compute ``kept_BK`` only.

    In the first layer these attend to all positions, in the others to each other.
    """
    rows_B1 = torch.arange(len(hidden_BLD), device=hidden_BLD.device)[:, None]
    kept_BKD = hidden_BLD[rows_B1, kept_BK]
    if mask is not None and mask.shape[2] > 1:
        mask = mask.expand(len(hidden_BLD), -1, -1, -1)[rows_B1, 0, kept_BK][:, None]
    first, *others = layers
    kept_BKD = _read(first, attend(first.attention.self, kept_BKD, hidden_BLD, mask), kept_BKD)
    if mask is not None:
        columns_B11K = kept_BK[:, None, None]
        mask = mask.gather(3, columns_B11K.expand(-1, -1, mask.shape[2], -1))
    for layer in others:
        kept_BKD = run(layer, kept_BKD, mask)
    return hidden_BLD.scatter(1, kept_BK[:, :, None].expand_as(kept_BKD), kept_BKD)


def _read(layer: Any, context: Tensor, hidden: Tensor) -> Tensor:
    output: Tensor = layer.feed_forward_chunk(layer.attention.output(context, hidden))
    return output


class CompiledLayer:
    """``whole_layer``, compiled once per shape and shared by all layers of a model.

    The weights keep their names in the model. Results equal those of ``whole_layer`` up to
    rounding, but on a GPU dropout draws different masks. The last layer is never compiled, since
    its number of positions differs with each batch.

    Args:
        shapes: the (examples, tokens) of batches to compile for, each with and without a padding
            mask, or with a mask for each position. Others run uncompiled, and so do those after the
            first ``PROGRAMS``, as phases may have: for one more, torch would raise an error.
    """

    def __init__(self, shapes: frozenset[tuple[int, int]]) -> None:
        # Programs of earlier jobs in this process would count towards the limit.
        torch.compiler.reset()
        self._shapes = shapes
        self._kinds: set[tuple[torch.Size | None, ...]] = set()
        self._compiled = torch.compile(whole_layer, dynamic=False, fullgraph=True)

    def __call__(self, layer: Any, hidden_BLD: Tensor, mask: Tensor | None) -> Tensor:
        kind = (hidden_BLD.shape, None if mask is None else mask.shape)
        if tuple(hidden_BLD.shape[:2]) in self._shapes and len(self._kinds) < PROGRAMS:
            self._kinds.add(kind)
        run = self._compiled if kind in self._kinds else whole_layer
        return run(layer, hidden_BLD, mask)
