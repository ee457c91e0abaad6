"""The keys of ``evaluation.*``."""

from __future__ import annotations

from dataclasses import dataclass

from bertexp.evaluation import EVALUATORS
from bertexp.evaluation.grammar import KEY
from bertexp.evaluation.probes import POOLINGS, PROBES
from bertexp.keys import key
from bertexp.objectives.config import BankConfig
from bertexp.validation import UserError, require

MINIMAL_PAIRS = "minimal_pairs"
AUTO = "auto"


@dataclass(kw_only=True)
class EvaluationConfig(BankConfig):
    """How a model is evaluated, and how often."""

    every: int | None = key(within="[1, inf)")
    evaluators: list[str] = key(choices=EVALUATORS)
    pseudo_perplexity: int | str | None
    minimal_pairs: str | None
    probes: list[str] = key(choices=PROBES)
    # Classifiers need some texts of each class, for fitting and for testing.
    probe_examples: int = key(within="[100, inf)", read_with=("evaluation.probes",))
    probe_pooling: str = key(choices=POOLINGS, read_with=("evaluation.probes",))
    probe_layer: int | None = key(within="[0, inf)", read_with=("evaluation.probes",))

    def __post_init__(self) -> None:
        super().__post_init__()
        texts = self.pseudo_perplexity
        fits = texts in (None, AUTO) or (isinstance(texts, int) and texts >= 0)
        allowed = f"{AUTO}, at least 0, or null"
        require(fits, "evaluation.pseudo_perplexity", texts, allowed)
        if self.minimal_pairs is None and MINIMAL_PAIRS in self.evaluators:
            raise UserError(f"evaluation.evaluators: {MINIMAL_PAIRS} is added by {KEY}; set that.")

    @property
    def measured(self) -> list[str]:
        """The names of the evaluators; that of minimal pairs wherever there are any."""
        added = [MINIMAL_PAIRS] if self.minimal_pairs else []
        return [*dict.fromkeys([*self.evaluators, *added])]
