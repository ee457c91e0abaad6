"""Attention at some of the positions of a batch, and within the texts of a row without padding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from bertexp.families.inputs import Inputs, Texts

# With windows.
HAS_VARLEN = torch.__version__ >= "2.11"  # not compared as strings
if HAS_VARLEN:
    from torch.nn.attention.varlen import varlen_attn

# The name of ``_attend`` in ``transformers``.
WITHIN_TEXTS = "within_texts"
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
        if has_kernel(queries) and not attention.dropout.p:
            return attend_within(queries, keys, values, mask).flatten(-2)
        mask = mask.mask(hidden_BLD.shape[1])
    if hidden_BLD.device.type == "cpu":
        context_BHPE = _products(attention, queries, keys, values, mask)
    else:
        dropout = attention.dropout.p if attention.training else 0.0
        context_BHPE = functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, dropout_p=dropout
        )
    return context_BHPE.transpose(1, 2).flatten(-2)


def at_positions(states_BLD: Tensor, positions_BP: Tensor) -> Tensor:
    """Return the states at positions of each row, shape (batch, positions, hidden)."""
    rows_B1 = torch.arange(len(states_BLD), device=states_BLD.device)[:, None]
    return states_BLD[rows_B1, positions_BP]


def has_kernel(queries_1HTE: Tensor) -> bool:
    """Whether ``attend_within`` takes such queries, else ``Texts.mask`` is needed."""
    is_half = queries_1HTE.dtype in (torch.bfloat16, torch.float16)
    return HAS_VARLEN and queries_1HTE.is_cuda and is_half and queries_1HTE.shape[-1] % 8 == 0


def attend_within(
    queries_1HTE: Tensor, keys_1HTE: Tensor, values_1HTE: Tensor, texts: Texts, **limits: Any
) -> Tensor:
    """Return the outputs of flash attention within texts, shape (1, tokens, heads, size)."""
    offsets_S, longest = texts
    context_THE = varlen_attn(
        queries_1HTE[0].transpose(0, 1),
        keys_1HTE[0].transpose(0, 1),
        values_1HTE[0].transpose(0, 1),
        offsets_S,
        offsets_S,
        longest,
        longest,
        **limits,
    )
    assert isinstance(context_THE, Tensor)
    return context_THE[None]


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


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int = 0,
    **more: Any,
) -> tuple[Tensor, None]:
    """Compute a layer's attention: as ``sdpa`` does, but within texts if ``cu_seq_lens_q`` is set.

    Args:
        sliding_window: one more than the positions on either side that a token attends to.
        cu_seq_lens_q, max_length_q: see ``Texts``.
    """
    if cu_seq_lens_q is not None:
        texts = Texts(cu_seq_lens_q, max_length_q)
        near = -1 if sliding_window is None else sliding_window - 1
        if has_kernel(value) and not dropout:
            # Rotary positions are added in float32.
            query, key = query.to(value.dtype), key.to(value.dtype)
            groups = query.shape[1] // key.shape[1]
            key, value = (each.repeat_interleave(groups, 1) for each in (key, value))
            limits = {"window_size": (near, near), "scale": scaling}
            return attend_within(query, key, value, texts, **limits), None
        attention_mask = texts.mask(query.shape[2])
        if near >= 0:
            column_T = torch.arange(query.shape[2], device=query.device)
            attention_mask = attention_mask & ((column_T - column_T[:, None]).abs() <= near)
    context_BLHE, _ = sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout, scaling, **more
    )
    return context_BLHE, None


def encode_row(family: Any, inputs: Inputs) -> Tensor:
    """Return ``Family.encode``'s result without computing padding: the texts are one row."""
    offsets_S, longest = inputs.texts
    # A mask with four axes is taken as it is, and ``_attend`` ignores it.
    unused = torch.ones((1, 1, 1, 1), dtype=torch.bool, device=offsets_S.device)
    arguments = family.arguments(**inputs.row, mask=unused)
    output = family.base(**arguments, cu_seq_lens_q=offsets_S, max_length_q=longest)
    return output.last_hidden_state[0, inputs.packed_slots_U]


AttentionInterface.register(WITHIN_TEXTS, _attend)
AttentionMaskInterface.register(WITHIN_TEXTS, sdpa_mask)
