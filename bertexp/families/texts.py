"""Encoders of ``transformers`` on a row of several texts, each of which attends within itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from bertexp.families.attention import attend_within, has_kernel
from bertexp.families.base import Family
from bertexp.families.inputs import Inputs, Texts

# The name of ``_attend`` in ``transformers``.
WITHIN_TEXTS = "within_texts"


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


def encode_row(family: Family, inputs: Inputs) -> Tensor:
    """Return the last hidden states at used positions without computing padding.

    The texts are one row, and ``family.keep_apart`` has been called.
    """
    offsets_S, longest = inputs.texts
    # A mask with four axes is taken as it is, and ``_attend`` ignores it.
    unused = torch.ones((1, 1, 1, 1), dtype=torch.bool, device=offsets_S.device)
    arguments = family.arguments(**inputs.row, mask=unused)
    output = family.base(**arguments, cu_seq_lens_q=offsets_S, max_length_q=longest)
    used_UD: Tensor = output.last_hidden_state[0, inputs.packed_slots_U]
    return used_UD


AttentionInterface.register(WITHIN_TEXTS, _attend)
AttentionMaskInterface.register(WITHIN_TEXTS, sdpa_mask)
