"""BERT's attention, at some of the positions or all."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def attend(attention: Any, queried_BPD: Tensor, hidden_BLD: Tensor, mask: Tensor | None) -> Tensor:
    """Return the concatenated outputs of the heads for each query, shape (batch, queries, hidden).

    On a GPU torch chooses the kernel: flash attention in bfloat16 or float16 for batches without
    padding; the memory-efficient one with a mask (flash attention takes none) or in float32.

    Args:
        attention: a ``BertSelfAttention`` of ``transformers``.
        queried_BPD: the hidden states at the queries; ``hidden_BLD`` itself for all positions.
        mask: True for positions to attend to, shape (batch, 1, 1, length), or (batch, 1, queries,
            length) for each query its own; None for all of them.
    """
    heads = attention.num_attention_heads
    if queried_BPD is hidden_BLD:
        queries, keys, values = _project(
            hidden_BLD, heads, attention.query, attention.key, attention.value
        )
    else:
        (queries,) = _project(queried_BPD, heads, attention.query)
        keys, values = _project(hidden_BLD, heads, attention.key, attention.value)
    if hidden_BLD.device.type == "cpu":
        context_BHPE = _products(attention, queries, keys, values, mask)
    else:
        dropout = attention.dropout.p if attention.training else 0.0
        context_BHPE = functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, dropout_p=dropout
        )
    return context_BHPE.transpose(1, 2).flatten(-2)


def _project(hidden_BLD: Tensor, heads: int, *layers: nn.Linear) -> list[Tensor]:
    """Return each layer's output, shape (batch, heads, length, size), from one matrix product."""
    weight = torch.cat([layer.weight for layer in layers])
    bias = torch.cat([layer.bias for layer in layers])
    parts = functional.linear(hidden_BLD, weight, bias).chunk(len(layers), dim=-1)
    return [part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts]


def _products(
    attention: Any, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None
) -> Tensor:
    """Attention without a fused kernel: on a CPU torch's has a slower backward pass."""
    scores_BHPL = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
    if mask is not None:
        scores_BHPL = scores_BHPL.masked_fill(~mask, torch.finfo(scores_BHPL.dtype).min)
    shares_BHPL = attention.dropout(scores_BHPL.softmax(-1))
    return shares_BHPL @ values
