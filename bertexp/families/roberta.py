"""RoBERTa (Liu et al. 2019): BERT's layers; positions begin behind that of padding."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional

from bertexp.families import FAMILIES
from bertexp.families.base import LABEL, MASKED
from bertexp.families.bert import Bert
from bertexp.families.config import ModelConfig
from bertexp.validation import UserError


@FAMILIES.register("roberta", reads=("model.initialization",))
class Roberta(Bert):
    """RoBERTa, which knows one kind of segment and no pairs."""

    name = "roberta"
    classes: ClassVar = {
        frozenset(): "RobertaModel",
        frozenset({MASKED}): "RobertaForMaskedLM",
        frozenset({LABEL}): "RobertaForSequenceClassification",
    }
    head_weights = re.compile(r"(^|\.)(lm_head|classifier|qa_outputs|pooler)\.")
    masked_head = "lm_head"

    @classmethod
    def settings(cls, sizes: ModelConfig, vocab_size: int, pad_id: int) -> dict[str, Any]:
        return super().settings(sizes, vocab_size, pad_id) | {
            "max_position_embeddings": sizes.max_position_embeddings + pad_id + 1,
            "type_vocab_size": 1,
            "bos_token_id": None,
            "eos_token_id": None,
        }

    @classmethod
    def positions(cls, config: Any) -> int:
        return int(config.max_position_embeddings - config.pad_token_id - 1)

    def use_padding(self, pad_id: int) -> None:
        if pad_id != self.config.pad_token_id:
            raise UserError(
                f"tokenizer: pads with the id {pad_id}, and the model's positions begin behind "
                f"{self.config.pad_token_id}, with which it pads; take its own tokenizer."
            )

    def transform(self, hidden_MD: Tensor) -> Tensor:
        head = self.model.lm_head
        transformed_MD: Tensor = head.layer_norm(functional.gelu(head.dense(hidden_MD)))
        return transformed_MD

    def label_logits(self, first_BD: Tensor) -> Tensor:
        # The head reads the first position of each sequence: give it nothing else.
        logits_BC: Tensor = self.model.classifier(first_BD[:, None])
        return logits_BC
