"""BERT's self-attention, in the way that is fastest where it runs.

On a GPU torch chooses the kernel: flash attention in bfloat16 or float16 where no position of a
batch is padded, the memory-efficient one where some are (flash attention takes no mask) and in
float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def attend(attention: Any, queried_BPD: Tensor, hidden_BLD: Tensor, mask: Tensor | None) -> Tensor:
    """Return what the heads read for each query, side by side, shape (batch, queries, hidden).

    Args:
        attention: a ``BertSelfAttention`` of ``transformers``.
        queried_BPD: the hidden states that ask; ``hidden_BLD`` itself where all do.
        hidden_BLD: the hidden states that are read.
        mask: whether a position may be read, shape (batch, 1, 1, length); None if all may.
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
    """Return each layer's output by head, shape (batch, heads, length, size), from one product."""
    weight = torch.cat([layer.weight for layer in layers])
    bias = torch.cat([layer.bias for layer in layers])
    parts = functional.linear(hidden_BLD, weight, bias).chunk(len(layers), dim=-1)
    return [part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts]


def _products(
    attention: Any, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None
) -> Tensor:
    """Attention in plain products: on a CPU torch's fused kernel has a slower backward pass."""
    scores_BHPL = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
    if mask is not None:
        scores_BHPL = scores_BHPL.masked_fill(~mask, torch.finfo(scores_BHPL.dtype).min)
    shares_BHPL = attention.dropout(scores_BHPL.softmax(-1))
    return shares_BHPL @ values
