"""What ``masking.*`` may say."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bertexp.masking import STRATEGIES
from bertexp.validation import UserError, require


@dataclass(kw_only=True)
class ReplaceConfig:
    """What predicted tokens become: ``[MASK]``, a random token, or what they were (shares of 1)."""

    mask: float
    random: float
    keep: float

    def __post_init__(self) -> None:
        for name, share in (("mask", self.mask), ("random", self.random), ("keep", self.keep)):
            require(0 <= share <= 1, f"masking.replace.{name}", share, "between 0 and 1")
        total = self.mask + self.random + self.keep
        if not math.isclose(total, 1, abs_tol=1e-6):
            raise UserError(
                f"masking.replace: mask={self.mask} + random={self.random} + keep={self.keep} "
                f"is {total:g}; the three shares must add up to 1."
            )


@dataclass(kw_only=True)
class MaskingConfig:
    """How many tokens a model has to predict, which ones, and what it sees instead."""

    prob: float
    strategy: str
    replace: ReplaceConfig

    def __post_init__(self) -> None:
        STRATEGIES.check(self.strategy)
        require(0 < self.prob < 1, "masking.prob", self.prob, "between 0 and 1, both excluded")
