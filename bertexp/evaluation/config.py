"""The keys of ``evaluation.*``."""

from __future__ import annotations

from dataclasses import dataclass

from bertexp.evaluation import EVALUATORS
from bertexp.evaluation.probes import POOLINGS, PROBES
from bertexp.keys import key
from bertexp.objectives.config import BankConfig


@dataclass(kw_only=True)
class EvaluationConfig(BankConfig):
    """On what and how often a model is evaluated."""

    every: int | None = key(within="[1, inf)")
    evaluators: list[str] = key(choices=EVALUATORS)
    pseudo_perplexity: int | None = key(within="[0, inf)")
    probes: list[str] = key(choices=PROBES)
    # Classifiers need some of each class, to be fitted to and to be tested on.
    probe_examples: int = key(within="[100, inf)", read_with=("evaluation.probes",))
    probe_pooling: str = key(choices=POOLINGS, read_with=("evaluation.probes",))
    probe_layer: int | None = key(within="[0, inf)", read_with=("evaluation.probes",))
