"""Encoders of ``transformers`` on a row of several texts, each of which attends within itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from bertexp.families.attention import attend_within, has_kernel
from bertexp.families.inputs import Texts

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


AttentionInterface.register(WITHIN_TEXTS, _attend)
AttentionMaskInterface.register(WITHIN_TEXTS, sdpa_mask)
