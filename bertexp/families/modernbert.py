"""ModernBERT (Warner et al. 2024): rotary positions, no segments, mostly local attention."""

from __future__ import annotations

from typing import Any

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
