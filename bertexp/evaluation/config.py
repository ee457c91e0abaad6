"""The keys of ``evaluation.*``."""

from __future__ import annotations

from dataclasses import dataclass

from bertexp.evaluation import EVALUATORS
from bertexp.evaluation.probes import POOLINGS, PROBES
from bertexp.keys import read_with
from bertexp.objectives.config import BankConfig
from bertexp.validation import require, require_choice

# Classifiers need some of each class, to be fitted to and to be tested on.
LEAST_EXAMPLES = 100


@dataclass(kw_only=True)
class EvaluationConfig(BankConfig):
    """On what and how often a model is evaluated."""

    every: int | None
    evaluators: list[str]
    pseudo_perplexity: int | None
    probes: list[str]
    probe_examples: int = read_with("evaluation.probes")
    probe_pooling: str = read_with("evaluation.probes")
    probe_layer: int | None = read_with("evaluation.probes")

    def __post_init__(self) -> None:
        super().__post_init__()
        every = self.every
        require(every is None or every >= 1, "evaluation.every", every, "at least 1, or null")
        for name in self.evaluators:
            EVALUATORS.check(name)
        require(
            self.pseudo_perplexity is None or self.pseudo_perplexity >= 0,
            "evaluation.pseudo_perplexity",
            self.pseudo_perplexity,
            "a number of paragraphs, or 0 or null for none",
        )
        for name in self.probes:
            PROBES.check(name)
        require(
            self.probe_examples >= LEAST_EXAMPLES,
            "evaluation.probe_examples",
            self.probe_examples,
            f"at least {LEAST_EXAMPLES}",
        )
        require_choice("evaluation.probe_pooling", self.probe_pooling, POOLINGS)
        layer = self.probe_layer
        allowed = "0 (the embeddings), a layer's number, or null for the last"
        require(layer is None or layer >= 0, "evaluation.probe_layer", layer, allowed)
