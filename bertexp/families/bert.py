"""BERT (Devlin et al. 2019), with a fast path: its last layer computes used positions only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from bertexp.families import FAMILIES
from bertexp.families.attention import Mask, at_positions, attend
from bertexp.families.base import LABEL, MASKED, PAIR, Family
from bertexp.families.compiling import Compilable
from bertexp.families.costs import Part
from bertexp.families.initialization import attend_to_neighbours, start_at_frequencies
from bertexp.families.inputs import Inputs


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

    def initialize(self, how: str, counts_V: np.ndarray | None = None) -> None:
        if how == "local":
            attend_to_neighbours(self.base)
            if counts_V is not None and MASKED in self.heads:
                start_at_frequencies(self.output_bias_V, counts_V)

    def encode(self, inputs: Inputs) -> Tensor:
        if inputs.packed_T is not None:
            return self._encode_packed(inputs)
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
            hidden_BLD = whole_layer(layer, hidden_BLD, mask)
        if inputs.kept_BK is not None:
            hidden_BLD = run_on_some(dropping, hidden_BLD, mask, inputs.kept_BK)
        if mask is not None and not is_whole:
            mask = at_positions(mask.expand(len(hidden_BLD), -1, -1, -1)[:, 0], inputs.queries_BP)
            mask = mask[:, None]
        return used_layer(last, hidden_BLD, mask, inputs.queries_BP, inputs.slots_U)

    def _encode_packed(self, inputs: Inputs) -> Tensor:
        """Return the same without computing padding: all texts in one row, attending separately."""
        hidden_1TD, texts = self.embed(self.arguments(**inputs.row)), inputs.texts
        *layers, last = self.base.encoder.layer
        for layer in layers:
            hidden_1TD = whole_layer(layer, hidden_1TD, texts)
        return used_layer(last, hidden_1TD, texts, None, inputs.packed_slots_U)

    def use_packing(self) -> None:
        """It does so already."""

    @property
    def whole_layers(self) -> int:
        """The number of layers that compute all positions before some do only ``kept_BK``."""
        return int(self.config.num_hidden_layers) // 2 - 1

    def embed(self, ids: dict[str, Any]) -> Tensor:
        """Return the input of the first layer."""
        names = ("input_ids", "token_type_ids", "position_ids")
        return look_up(self.base.embeddings, *(ids.get(name) for name in names))

    def layer_products(self, length: float) -> int:
        """Return the multiply-adds of one layer per token, matrix products only."""
        hidden, inner = self.config.hidden_size, self.config.intermediate_size
        return int(4 * hidden * hidden + 2 * length * hidden + 2 * hidden * inner)

    def products(self, inputs: Inputs) -> float:
        hidden, length = self.config.hidden_size, float(inputs.input_ids_BL.shape[1])
        tokens, queries = inputs.input_ids_BL.numel(), inputs.queries_BP.numel()
        if inputs.packed_T is not None:
            tokens = queries = len(inputs.packed_T)
            _, length = inputs.mean_texts
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
        return transform(self.model.cls.predictions.transform, hidden_MD)

    def pair_logits(self, first_BD: Tensor) -> Tensor:
        # The pooler reads only the first position of each sequence.
        pooled_BD = self.base.pooler(first_BD[:, None])
        return self.model.cls.seq_relationship(pooled_BD)

    def parts(self, length: int) -> list[Part]:
        found = super().parts(length)
        if PAIR in self.heads:
            head, products = self.model.cls.seq_relationship, 2 * self.config.hidden_size
            found.append(Part("pairs' head", head, products, is_head=True))
        return found


@Compilable
def look_up(
    embeddings: Any, ids_BL: Tensor, types_BL: Tensor | None, positions_BL: Tensor | None
) -> Tensor:
    """Return the output of ``BertEmbeddings``."""
    return embeddings(ids_BL, types_BL, positions_BL)


@Compilable
def whole_layer(layer: Any, hidden_BLD: Tensor, mask: Mask) -> Tensor:
    """Return the output of a ``BertLayer`` at all positions, see ``attend``."""
    context_BLD = attend(layer.attention.self, hidden_BLD, hidden_BLD, mask)
    return _read(layer, context_BLD, hidden_BLD)


@Compilable
def used_layer(
    layer: Any, hidden_BLD: Tensor, mask: Mask, queries_BP: Tensor | None, slots_U: Tensor
) -> Tensor:
    """Return the output of a ``BertLayer`` at used positions, shape (used, hidden).

    ``queries_BP`` None is all positions.
    """
    queried_BPD = hidden_BLD if queries_BP is None else at_positions(hidden_BLD, queries_BP)
    context_BPD = attend(layer.attention.self, queried_BPD, hidden_BLD, mask)
    context_UD, queried_UD = (
        each_BPD.flatten(0, 1)[slots_U] for each_BPD in (context_BPD, queried_BPD)
    )
    return _read(layer, context_UD, queried_UD)


@Compilable
def transform(head: Any, hidden_MD: Tensor) -> Tensor:
    """Return the output of a ``BertPredictionHeadTransform``."""
    return head(hidden_MD)


def run_on_some(
    layers: Sequence[Any], hidden_BLD: Tensor, mask: Tensor | None, kept_BK: Tensor
) -> Tensor:
    """Return the states at all positions, of which the layers compute ``kept_BK`` only.

    In the first layer these attend to all positions, in the others to each other.
    """
    kept_BKD = at_positions(hidden_BLD, kept_BK)
    if mask is not None and mask.shape[2] > 1:
        mask = at_positions(mask.expand(len(hidden_BLD), -1, -1, -1)[:, 0], kept_BK)[:, None]
    first, *others = layers
    kept_BKD = _read(first, attend(first.attention.self, kept_BKD, hidden_BLD, mask), kept_BKD)
    if mask is not None:
        columns_B11K = kept_BK[:, None, None]
        mask = mask.gather(3, columns_B11K.expand(-1, -1, mask.shape[2], -1))
    for layer in others:
        kept_BKD = whole_layer(layer, kept_BKD, mask)
    return hidden_BLD.scatter(1, kept_BK[:, :, None].expand_as(kept_BKD), kept_BKD)


def _read(layer: Any, context: Tensor, hidden: Tensor) -> Tensor:
    return layer.feed_forward_chunk(layer.attention.output(context, hidden))
