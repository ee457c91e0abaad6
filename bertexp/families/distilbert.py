"""DistilBERT (Sanh et al. 2019): BERT's layers without segments and without a pooler."""

from __future__ import annotations

from typing import Any

from bertexp.families import FAMILIES
from bertexp.families.base import Family
from bertexp.families.config import ModelConfig


@FAMILIES.register("distilbert")
class DistilBert(Family):
    """DistilBERT, computed by ``transformers``; it learns from text alone, without a teacher."""

    name = "distilbert"

    @classmethod
    def settings(cls, sizes: ModelConfig, vocab_size: int, pad_id: int) -> dict[str, Any]:
        found = super().settings(sizes, vocab_size, pad_id)
        return found | {"hidden_dim": found.pop("intermediate_size")}
