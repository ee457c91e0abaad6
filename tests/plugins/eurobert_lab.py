"""A family in one file: EuroBERT (Boizard et al. 2025), a Llama that looks both ways."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from torch import Tensor

from bertexp.families import FAMILIES
from bertexp.families.base import LABEL, MASKED, Family
from bertexp.families.config import ModelConfig


@FAMILIES.register("eurobert")
class EuroBert(Family):
    """EuroBERT: rotary positions, gated feed-forward parts, no segments, a head of one matrix."""

    name = "eurobert"
    classes: ClassVar = {
        frozenset(): "EuroBertModel",
        frozenset({MASKED}): "EuroBertForMaskedLM",
        frozenset({LABEL}): "EuroBertForSequenceClassification",
    }
    head_weights = re.compile(r"^(lm_head|dense|classifier)\.")
    dropouts = ("attention_dropout",)
    feed_forward_matrices = 3

    @classmethod
    def settings(cls, sizes: ModelConfig, vocab_size: int, pad_id: int) -> dict[str, Any]:
        found = super().settings(sizes, vocab_size, pad_id)
        return found | {"bos_token_id": None, "eos_token_id": None, "mask_token_id": pad_id}

    @classmethod
    def prepare_labels(cls, config: Any) -> None:
        config.classifier_pooling = "bos"

    def transform(self, hidden_MD: Tensor) -> Tensor:
        return hidden_MD

    def label_logits(self, first_BD: Tensor) -> Tensor:
        model = self.model
        logits_BC: Tensor = model.classifier(model.activation(model.dense(first_BD)))
        return logits_BC

    def head_products(self, classes: int) -> int:
        hidden = int(self.config.hidden_size)
        return hidden * (classes + hidden * (LABEL in self.heads))
