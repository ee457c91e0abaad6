"""BERT's attention, at some of the positions or all."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

# Torch has it since 2.10.
HAS_VARLEN = find_spec("torch.nn.attention.varlen") is not None
if HAS_VARLEN:
    from torch.nn.attention.varlen import varlen_attn


# The precisions of flash attention.
HALF = (torch.bfloat16, torch.float16)


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
        numbers_T = torch.arange(tokens, device=self.offsets_S.device)
        text_T = torch.bucketize(numbers_T, self.offsets_S, right=True)
        return (text_T[:, None] == text_T)[None, None]


# The positions to attend to: True for them, shape (batch, 1, 1, length), or (batch, 1, queries,
# length) for each query its own; None for all of them.
Mask = Tensor | Texts | None


def attend(attention: Any, queried_BPD: Tensor, hidden_BLD: Tensor, mask: Mask) -> Tensor:
    """Return the concatenated outputs of the heads for each query, shape (batch, queries, hidden).

    On a GPU torch chooses the kernel: flash attention in bfloat16 or float16 for batches without
    padding; the memory-efficient one with a mask (flash attention takes none) or in float32.

    Args:
        attention: a ``BertSelfAttention`` of ``transformers``.
        queried_BPD: the hidden states at the queries; ``hidden_BLD`` itself for all positions.
    """
    heads = attention.num_attention_heads
    if queried_BPD is hidden_BLD:
        queries, keys, values = _project(
            hidden_BLD, heads, attention.query, attention.key, attention.value
        )
    else:
        (queries,) = _project(queried_BPD, heads, attention.query)
        keys, values = _project(hidden_BLD, heads, attention.key, attention.value)
    if isinstance(mask, Texts):
        if queries.is_cuda and queries.dtype in HALF and keeps_apart(attention):
            query_THE, key_THE, value_THE = (
                each.transpose(1, 2)[0] for each in (queries, keys, values)
            )
            offsets_S, longest = mask
            context_THE = varlen_attn(
                query_THE, key_THE, value_THE, offsets_S, offsets_S, longest, longest
            )
            assert isinstance(context_THE, Tensor)
            return context_THE.flatten(-2)[None]
        mask = mask.mask(hidden_BLD.shape[1])
    if hidden_BLD.device.type == "cpu":
        context_BHPE = _products(attention, queries, keys, values, mask)
    else:
        dropout = attention.dropout.p if attention.training else 0.0
        context_BHPE = functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, dropout_p=dropout
        )
    return context_BHPE.transpose(1, 2).flatten(-2)


def keeps_apart(attention: Any) -> bool:
    """Whether a GPU has a kernel for attention within ``Texts``, which is without dropout.

    It is for ``HALF`` precision; anything else takes a mask of all pairs of tokens.
    """
    fits = attention.attention_head_size % 8 == 0 and attention.dropout.p == 0
    return HAS_VARLEN and fits


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
