"""What ``evaluation.*`` may say."""

from __future__ import annotations

from dataclasses import dataclass

from bertexp.validation import require


@dataclass(kw_only=True)
class EvaluationConfig:
    """On what and how often a model is evaluated."""

    mask_probs: list[float]
    every: int | None
    max_examples: int | None

    def __post_init__(self) -> None:
        require(
            len({f"{prob:g}" for prob in self.mask_probs}) == len(self.mask_probs) > 0
            and all(0 < prob < 1 for prob in self.mask_probs),
            "evaluation.mask_probs",
            self.mask_probs,
            "one or more different rates, each between 0 and 1, both excluded",
        )
        for key in ("every", "max_examples"):
            value = getattr(self, key)
            require(value is None or value >= 1, f"evaluation.{key}", value, "at least 1, or null")
