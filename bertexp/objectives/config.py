"""The keys of ``task.*``, and of ``evaluation.*`` what objectives are evaluated on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from bertexp.data.config import SENTENCE_METHODS
from bertexp.keys import key
from bertexp.objectives import OBJECTIVES
from bertexp.pairs import NEGATIVES, SEGMENTS, negative_shares
from bertexp.validation import UserError, require, require_choice


@dataclass(kw_only=True)
class TaskConfig:
    """The objectives of a task, and its examples."""

    name: str
    objectives: list[str] = key(choices=OBJECTIVES)
    weights: dict[str, float] | None
    max_length: int = key(within="[8, inf)")
    pad_to: int | None
    sentences: str = key(choices=SENTENCE_METHODS)
    segments: str = key(choices=SEGMENTS)
    short_prob: float = key(within="[0, 1]")
    negatives: Any
    next_prob: float = key(within="(0, 1)")
    dynamic: bool

    def __post_init__(self) -> None:
        require(bool(self.objectives), "task.objectives", self.objectives, "at least one objective")
        for name, weight in (self.weights or {}).items():
            require_choice("task.weights", name, self.objectives)
            require(0 < weight < math.inf, f"task.weights.{name}", weight, "above 0 and finite")
        allowed = f"at least task.max_length={self.max_length}, or null"
        fits = self.pad_to is None or self.pad_to >= self.max_length
        require(fits, "task.pad_to", self.pad_to, allowed)
        self._check_negatives()

    @property
    def heads(self) -> frozenset[str]:
        heads = (OBJECTIVES[name].head for name in self.objectives)
        return frozenset(head for head in heads if head)

    @property
    def uses_sentences(self) -> bool:
        return any(OBJECTIVES[name].uses_sentences for name in self.objectives)

    @property
    def masks(self) -> bool:
        return any("masking" in OBJECTIVES.reads(name) for name in self.objectives)

    def _check_negatives(self) -> None:
        shares = negative_shares(self.negatives)
        for kind, share in shares.items():
            NEGATIVES.check(kind)
            is_share = isinstance(share, int | float) and 0 < share <= 1
            require(is_share, f"task.negatives.{kind}", share, "above 0 and at most 1")
        if not math.isclose(total := sum(shares.values()), 1, abs_tol=1e-6):
            raise UserError(
                f"task.negatives: {', '.join(f'{k}={v:g}' for k, v in shares.items())} add up to "
                f"{total:g}; the shares must add up to 1."
            )


@dataclass(kw_only=True)
class BankConfig:
    """The keys of ``evaluation.*`` for the sets that objectives are evaluated on."""

    mask_probs: list[float] = key(within="(0, 1)")
    negatives: list[str] = key(choices=NEGATIVES)
    count_negatives: str = key(choices=("trained", "all"))
    max_examples: int | None = key(within="[1, inf)")

    def __post_init__(self) -> None:
        distinct = {f"{prob:g}" for prob in self.mask_probs}
        allowed = "one or more different rates"
        fits = len(distinct) == len(self.mask_probs) > 0
        require(fits, "evaluation.mask_probs", self.mask_probs, allowed)


@OBJECTIVES.own_keys("diffusion")
@dataclass(kw_only=True)
class DiffusionKeys:
    """What a prediction counts in masked diffusion."""

    weighting: str = key(
        "elbo",
        choices=("elbo", "none"),
        about="elbo: 1 / its example's rate, whose mean bounds the likelihood; none: 1.",
    )
