"""A phase of a run: a share of its budget with its own examples, losses and learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bertexp.objectives.examples import Examples
from bertexp.objectives.head import Head
from bertexp.training.config import TrainingConfig


@dataclass(frozen=True)
class Phase:
    """A share of the budget, from ``low`` to ``high``; most runs have only one phase.

    Attributes:
        weights: the factor of each head's mean loss.
        predicts_tokens: whether tokens are predicted over the vocabulary.
        restarts, restarts_masking: whether the schedule of the learning rate, and that of the
            masking, are over the phase, not over the whole run.
        facts: the lines of the plan that only this phase has.
    """

    config: TrainingConfig
    heads: Sequence[Head]
    weights: Mapping[str, float]
    examples: Examples
    predicts_tokens: bool = False
    low: float = 0.0
    high: float = 1.0
    restarts: bool = False
    restarts_masking: bool = False
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_last(self) -> bool:
        return self.high == 1

    def overall(self, share: float) -> float:
        """Return the share of the whole budget at a share of the phase."""
        return self.low + (self.high - self.low) * share

    def scheduled(self, share: float) -> float:
        """Return the progress of the learning rate's schedule at a share of the phase."""
        return share if self.restarts else self.overall(share)

    def masked(self, share: float) -> float:
        """Return the progress of the masking's schedule at a share of the phase."""
        return share if self.restarts_masking else self.overall(share)
