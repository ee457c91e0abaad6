"""What ``evaluation.*`` may say."""

from __future__ import annotations

from dataclasses import dataclass

from bertexp.evaluation.probes import POOLINGS, PROBES
from bertexp.pairs import NEGATIVES
from bertexp.unread import read_with
from bertexp.validation import require, require_choice

# Classifiers need some of each class, to be fitted to and to be tested on.
LEAST_EXAMPLES = 100


@dataclass(kw_only=True)
class EvaluationConfig:
    """On what and how often a model is evaluated."""

    mask_probs: list[float]
    negatives: list[str]
    count_negatives: str
    every: int | None
    max_examples: int | None
    pseudo_perplexity: int | None
    probes: list[str]
    probe_examples: int = read_with("evaluation.probes")
    probe_pooling: str = read_with("evaluation.probes")
    probe_layer: int | None = read_with("evaluation.probes")

    def __post_init__(self) -> None:
        require(
            len({f"{prob:g}" for prob in self.mask_probs}) == len(self.mask_probs) > 0
            and all(0 < prob < 1 for prob in self.mask_probs),
            "evaluation.mask_probs",
            self.mask_probs,
            "one or more different rates, each between 0 and 1, both excluded",
        )
        for kind in self.negatives:
            require_choice("evaluation.negatives", kind, NEGATIVES.names())
        counted = self.count_negatives
        require_choice("evaluation.count_negatives", counted, ("trained", "all"))
        for key in ("every", "max_examples"):
            value = getattr(self, key)
            require(value is None or value >= 1, f"evaluation.{key}", value, "at least 1, or null")
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
