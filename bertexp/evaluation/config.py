"""The keys of ``evaluation.*``."""

from __future__ import annotations

from dataclasses import dataclass

from bertexp.evaluation import EVALUATORS
from bertexp.evaluation.probes import POOLINGS, PROBES
from bertexp.keys import key
from bertexp.objectives.config import BankConfig


@dataclass(kw_only=True)
class EvaluationConfig(BankConfig):
    """How a model is evaluated, and how often."""

    every: int | None = key(within="[1, inf)")
    evaluators: list[str] = key(choices=EVALUATORS)
    pseudo_perplexity: int | None = key(within="[0, inf)")
    probes: list[str] = key(choices=PROBES)
    # Classifiers need some texts of each class, for fitting and for testing.
    probe_examples: int = key(within="[100, inf)", read_with=("evaluation.probes",))
    probe_pooling: str = key(choices=POOLINGS, read_with=("evaluation.probes",))
    probe_layer: int | None = key(within="[0, inf)", read_with=("evaluation.probes",))
