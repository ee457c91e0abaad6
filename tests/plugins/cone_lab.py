"""An evaluator of one's own, and the metric that it measures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional

from bertexp import metrics
from bertexp.evaluation import EVALUATORS
from bertexp.evaluation.evaluator import Evaluator
from bertexp.keys import key
from bertexp.objectives.learner import Learner

metrics.register(
    "eval/cone",
    lower_is_better=True,
    unit="degrees",
    low=0.0,
    high=180.0,
    comparison=True,
    meaning="mean angle of word embeddings with their mean",
)


@dataclass(kw_only=True)
class ConeKeys:
    """``evaluation.cone.*``."""

    words: int = key(100, within="[2, inf)", about="How many words are looked at.")


@EVALUATORS.register("cone", keys=ConeKeys)
class Cone(Evaluator):
    """Whether word embeddings lie in a narrow cone (Ethayarajh 2019)."""

    @torch.no_grad()
    def measure(self, learner: Learner, device: torch.device) -> Iterator[tuple[str, float]]:
        count = EVALUATORS.keys_of(self.source.config, ConeKeys).words
        table_VD = learner.model.get_input_embeddings().weight[:count].double()
        cosines_V = functional.cosine_similarity(table_VD, table_VD.mean(0, keepdim=True))
        yield "eval/cone", cosines_V.clamp(-1, 1).arccos().rad2deg().mean().item()
