"""BERT's encoder, whose last layer works at the positions that are used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bertexp.families.attention import attend
from bertexp.objectives.batch import Batch

# Gives the output of a ``BertLayer`` at all positions, see ``whole_layer``.
Layer = Callable[[Any, Tensor, Tensor | None], Tensor]


def whole_layer(layer: Any, hidden_BLD: Tensor, mask_B11L: Tensor | None) -> Tensor:
    """Return the output of a ``BertLayer`` at all positions, shape (batch, length, hidden).

    Args:
        layer: a ``BertLayer`` of ``transformers``.
        hidden_BLD: what it reads.
        mask_B11L: whether a position may be read; None if all may.
    """
    context_BLD = attend(layer.attention.self, hidden_BLD, hidden_BLD, mask_B11L)
    return _read(layer, context_BLD, hidden_BLD)


def encode(bert: Any, batch: Batch, run_layer: Layer = whole_layer) -> Tensor:
    """Return the last hidden states at ``batch.slots_U``, shape (used, hidden).

    They equal those of ``bert(...)`` at these positions: after the last layer's keys and
    values nothing mixes positions, so its queries and all that follows are computed for
    what is used only. In a two-layer model that saves a third of the work.

    Args:
        bert: a ``BertModel`` of ``transformers``.
        batch: what it reads.
        run_layer: computes all layers but the last.
    """
    mask_BL = batch.attention_mask_BL
    mask_B11L = None if mask_BL is None else mask_BL[:, None, None, :].bool()
    hidden_BLD = bert.embeddings(
        input_ids=batch.input_ids_BL, token_type_ids=batch.token_type_ids_BL
    )
    *layers, last = bert.encoder.layer
    for layer in layers:
        hidden_BLD = run_layer(layer, hidden_BLD, mask_B11L)
    rows_B1 = torch.arange(len(hidden_BLD), device=hidden_BLD.device)[:, None]
    queried_BPD = hidden_BLD[rows_B1, batch.queries_BP]
    context_BPD = attend(last.attention.self, queried_BPD, hidden_BLD, mask_B11L)
    context_UD, queried_UD = (
        each_BPD.flatten(0, 1)[batch.slots_U] for each_BPD in (context_BPD, queried_BPD)
    )
    return _read(last, context_UD, queried_UD)


def _read(layer: Any, context: Tensor, hidden: Tensor) -> Tensor:
    """Return the output of a ``BertLayer`` whose heads read ``context`` for ``hidden``."""
    output: Tensor = layer.feed_forward_chunk(layer.attention.output(context, hidden))
    return output
