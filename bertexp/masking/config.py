"""What ``masking.*`` may say."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from bertexp.masking import STRATEGIES
from bertexp.unread import read_with
from bertexp.validation import UserError, require, require_choice

SCHEDULES = ("constant", "linear", "cosine", "step")
OPEN_INTERVAL = "between 0 and 1, both excluded"


@dataclass(kw_only=True)
class ReplaceConfig:
    """What predicted tokens become: ``[MASK]``, a random token, or what they were (shares of 1).

    Random tokens are special ones too if ``special``.
    """

    mask: float
    random: float
    keep: float
    special: bool = read_with("masking.replace.random", default=False)

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
class ScheduleConfig:
    """How the rate moves over a run's budget, see ``schedule.mask_rate``."""

    name: str = "constant"
    end: float | None = None
    at: float = read_with("masking.schedule.name", "step", default=0.5)

    def __post_init__(self) -> None:
        require_choice("masking.schedule.name", self.name, SCHEDULES)
        if self.name == "constant":
            allowed = "null where masking.schedule.name=constant"
            require(self.end is None, "masking.schedule.end", self.end, allowed)
        else:
            valid = self.end is not None and 0 < self.end < 1
            require(valid, "masking.schedule.end", self.end, OPEN_INTERVAL)
        require(0 < self.at < 1, "masking.schedule.at", self.at, OPEN_INTERVAL)


@dataclass(kw_only=True)
class MaskingConfig:
    """How many tokens a model has to predict, which ones, and what it sees instead.

    What has a default here changes nothing in BERT's masking.
    """

    prob: float
    strategy: str
    replace: ReplaceConfig
    corrupt_prob: float | None = None
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    dynamic: bool = True
    copies: int | None = None
    span_p: float = 0.2
    span_max: int = 10
    ngram_max: int = 3
    pmi_min_count: int = 10
    pmi_share: float = 0.5
    frequency_exponent: float = 0.5

    def __post_init__(self) -> None:
        STRATEGIES.check(self.strategy)
        require(0 < self.prob <= 1, "masking.prob", self.prob, "above 0 and at most 1")
        corrupt = self.corrupt_prob
        require(corrupt is None or 0 < corrupt < 1, "masking.corrupt_prob", corrupt, OPEN_INTERVAL)
        require(0 < self.span_p < 1, "masking.span_p", self.span_p, OPEN_INTERVAL)
        for key in ("span_max", "ngram_max", "pmi_min_count"):
            require(getattr(self, key) >= 1, f"masking.{key}", getattr(self, key), "at least 1")
        share, exponent = self.pmi_share, self.frequency_exponent
        require(0 < share <= 1, "masking.pmi_share", share, "above 0 and at most 1")
        require(0 <= exponent <= 2, "masking.frequency_exponent", exponent, "between 0 and 2")
        copies = self.copies
        require(copies is None or copies >= 1, "masking.copies", copies, "at least 1, or null")
        if not self.dynamic and copies not in (None, 1):
            raise UserError(
                f"masking.copies={copies}: masking.dynamic=false has one copy; set "
                "masking.dynamic=true to repeat the masks of that many epochs."
            )
