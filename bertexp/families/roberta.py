"""RoBERTa (Liu et al. 2019): BERT's layers; positions begin after the padding id."""

from __future__ import annotations

from typing import Any

from bertexp.families import FAMILIES
from bertexp.families.bert import BertLayers
from bertexp.families.config import ModelConfig


@FAMILIES.register("roberta", reads=("model.initialization",))
class Roberta(BertLayers):
    """RoBERTa, which has one segment type and no head for pairs."""

    name = "roberta"
    positions_follow_padding = True

    @classmethod
    def settings(cls, sizes: ModelConfig, vocab_size: int, pad_id: int) -> dict[str, Any]:
        return super().settings(sizes, vocab_size, pad_id) | {"type_vocab_size": 1}
