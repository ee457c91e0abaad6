"""ModernBERT (Warner et al. 2024): rotary positions, no segments, mostly local attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bertexp.families import FAMILIES
from bertexp.families.base import Family
from bertexp.families.config import ModelConfig


@FAMILIES.register("modernbert")
class ModernBert(Family):
    """ModernBERT, computed by ``transformers``."""

    name = "modernbert"

    @classmethod
    def settings(cls, sizes: ModelConfig, vocab_size: int, pad_id: int) -> dict[str, Any]:
        found = super().settings(sizes, vocab_size, pad_id)
        return found | {"classifier_dropout": sizes.dropout}

    @classmethod
    def prepare_labels(cls, config: Any) -> None:
        config.classifier_pooling = "cls"

    def mask(self, attended_B1LL: Tensor) -> dict[str, Any]:
        """Most layers attend to near positions only; they need a mask that has both limits."""
        column_L = torch.arange(attended_B1LL.shape[-1], device=attended_B1LL.device)
        near_LL = (column_L - column_L[:, None]).abs() <= self.config.sliding_window
        return {
            "full_attention": super().mask(attended_B1LL),
            "sliding_attention": super().mask(attended_B1LL & near_LL),
        }
