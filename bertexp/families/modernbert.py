"""ModernBERT (Warner et al. 2024): rotary positions, no segments, windows in most layers."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from torch import Tensor

from bertexp.families import FAMILIES
from bertexp.families.base import LABEL, MASKED, Family
from bertexp.families.config import ModelConfig


@FAMILIES.register("modernbert")
class ModernBert(Family):
    """ModernBERT, computed by ``transformers``."""

    name = "modernbert"
    classes: ClassVar = {
        frozenset(): "ModernBertModel",
        frozenset({MASKED}): "ModernBertForMaskedLM",
        frozenset({LABEL}): "ModernBertForSequenceClassification",
    }
    head_weights = re.compile(r"^(head|decoder|classifier)\.")
    dropouts = ("embedding_dropout", "attention_dropout", "mlp_dropout")
    # Two to the inside, one of them a gate, and one back.
    feed_forward_matrices = 3

    @classmethod
    def settings(cls, sizes: ModelConfig, vocab_size: int, pad_id: int) -> dict[str, Any]:
        found = super().settings(sizes, vocab_size, pad_id) | {"classifier_dropout": sizes.dropout}
        tokens = ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
        return found | dict.fromkeys(tokens)

    @classmethod
    def segments(cls, config: Any) -> int:
        return 1

    @classmethod
    def prepare_labels(cls, config: Any) -> None:
        config.classifier_pooling = "cls"

    def transform(self, hidden_MD: Tensor) -> Tensor:
        transformed_MD: Tensor = self.model.head(hidden_MD)
        return transformed_MD

    def label_logits(self, first_BD: Tensor) -> Tensor:
        model = self.model
        logits_BC: Tensor = model.classifier(model.drop(model.head(first_BD)))
        return logits_BC
