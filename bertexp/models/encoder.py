"""BERT's encoder, whose last layer works at the positions that are used."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bertexp.tasks.base import Batch


def encode(bert: Any, batch: Batch) -> Tensor:
    """Return the last hidden states at the batch's queries, shape (batch, queries, hidden).

    They equal those of ``bert(...)`` at these positions: after the last layer's keys and
    values nothing mixes positions, so its queries and all that follows are computed for
    ``batch.queries_BP`` only. In a two-layer model that saves a third of the work.

    Args:
        bert: a ``BertModel`` of ``transformers``.
        batch: what it reads.
    """
    mask_BL = batch.attention_mask_BL
    mask_B11L = None if mask_BL is None else mask_BL[:, None, None, :].bool()
    hidden_BLD = bert.embeddings(
        input_ids=batch.input_ids_BL, token_type_ids=batch.token_type_ids_BL
    )
    *layers, last = bert.encoder.layer
    for layer in layers:
        hidden_BLD = layer(hidden_BLD, mask_B11L)
    rows_B1 = torch.arange(len(hidden_BLD), device=hidden_BLD.device)[:, None]
    queried_BPD = hidden_BLD[rows_B1, batch.queries_BP]
    context_BPD = _attend(last.attention.self, queried_BPD, hidden_BLD, mask_B11L)
    return last.feed_forward_chunk(last.attention.output(context_BPD, queried_BPD))


def _attend(attention: Any, queried_BPD: Tensor, hidden_BLD: Tensor, mask: Tensor | None) -> Tensor:
    """Return what the heads of ``attention`` (a ``BertSelfAttention``) read for each query."""

    def by_head(projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)

    context_BHPE = functional.scaled_dot_product_attention(
        by_head(attention.query(queried_BPD)),
        by_head(attention.key(hidden_BLD)),
        by_head(attention.value(hidden_BLD)),
        attn_mask=mask,
        dropout_p=attention.dropout.p if attention.training else 0.0,
    )
    return context_BHPE.transpose(1, 2).flatten(-2)
