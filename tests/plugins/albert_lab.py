"""A family of one's own: ALBERT, whose layers share their weights (Lan et al. 2020)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bertexp.families import FAMILIES
from bertexp.families.base import Family
from bertexp.families.config import ModelConfig


@FAMILIES.register("albert")
class Albert(Family):
    """ALBERT, computed by ``transformers``."""

    name = "albert"

    @classmethod
    def settings(cls, sizes: ModelConfig, vocab_size: int, pad_id: int) -> dict[str, Any]:
        return super().settings(sizes, vocab_size, pad_id) | {"embedding_size": sizes.hidden_size}

    def transform(self, hidden_MD: Tensor) -> Tensor:
        head = self.model.predictions
        transformed_MD: Tensor = head.LayerNorm(head.activation(head.dense(hidden_MD)))
        return transformed_MD
