"""ELECTRA's encoder (Clark et al. 2020): BERT's layers, trained here on masked tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from bertexp.families import FAMILIES
from bertexp.families.base import LABEL, REPLACED
from bertexp.families.bert import BertLayers
from bertexp.families.config import ModelConfig
from bertexp.families.costs import Part
from bertexp.families.initialization import keep_sinusoids
from bertexp.families.inputs import Inputs


@FAMILIES.register("electra", reads=("model.initialization",))
class Electra(BertLayers):
    """ELECTRA, with the head of its generator (masked tokens) or of its discriminator.

    A discriminator that is trained on masked tokens is given a generator's head.

    From scratch the embeddings are as wide as the layers, as in the published base and large
    models; in a checkpoint they may be narrower.
    """

    name = "electra"

    @classmethod
    def classes(cls) -> dict[frozenset[str], str]:
        return super().classes() | {frozenset({REPLACED}): "ElectraForPreTraining"}

    @classmethod
    def settings(cls, sizes: ModelConfig, vocab_size: int, pad_id: int) -> dict[str, Any]:
        found = super().settings(sizes, vocab_size, pad_id)
        return found | {"embedding_size": sizes.hidden_size}

    def initialize(self, how: str, counts_V: np.ndarray | None = None) -> None:
        super().initialize(how, counts_V)
        if how == "local" and self._is_projected:
            keep_sinusoids(self.base.embeddings_project.weight)

    def replaced_logits(self, hidden_MD: Tensor) -> Tensor:
        return self.model.discriminator_predictions(hidden_MD)

    def embed(self, ids: dict[str, Any]) -> Tensor:
        embedded_BLE = super().embed(ids)
        if not self._is_projected:
            return embedded_BLE
        return self.base.embeddings_project(embedded_BLE)

    def products(self, inputs: Inputs) -> float:
        projection = self.config.embedding_size * self.config.hidden_size * self._is_projected
        return super().products(inputs) + inputs.input_ids_BL.numel() * projection

    def head_products(self, classes: int) -> int:
        hidden, inside = self.config.hidden_size, self.config.embedding_size
        return int((hidden if LABEL in self.heads else inside) * (hidden + classes))

    def parts(self, length: int) -> list[Part]:
        found = super().parts(length)
        if self._is_projected:
            projection = self.config.embedding_size * self.config.hidden_size
            part = Part("embeddings' projection", self.base.embeddings_project, projection)
            found.insert([each.name for each in found].index("encoder"), part)
        return found

    @property
    def _is_projected(self) -> bool:
        return bool(self.config.embedding_size != self.config.hidden_size)
