"""What ``masking.*`` may say."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from bertexp.keys import key, read_with
from bertexp.masking import STRATEGIES
from bertexp.validation import UserError, require, require_choice

SCHEDULES = ("constant", "linear", "cosine", "step")
OPEN_INTERVAL = "between 0 and 1, both excluded"


@dataclass(kw_only=True)
class ReplaceConfig:
    """What predicted tokens become: the mask token, a random one, or what they were (shares of 1).

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

    def __post_init__(self) -> None:
        STRATEGIES.check(self.strategy)
        require(0 < self.prob <= 1, "masking.prob", self.prob, "above 0 and at most 1")
        corrupt = self.corrupt_prob
        require(corrupt is None or 0 < corrupt < 1, "masking.corrupt_prob", corrupt, OPEN_INTERVAL)
        copies = self.copies
        require(copies is None or copies >= 1, "masking.copies", copies, "at least 1, or null")
        if not self.dynamic and copies not in (None, 1):
            raise UserError(
                f"masking.copies={copies}: masking.dynamic=false has one copy; set "
                "masking.dynamic=true to repeat the masks of that many epochs."
            )


@STRATEGIES.own_keys("span")
@dataclass(kw_only=True)
class SpanKeys:
    """The lengths of spans."""

    p: float = key(0.2, within="(0, 1)", about="Parameter of the geometric law of lengths.")
    max: int = key(10, within="[1, inf)", about="The longest, in words.")


@STRATEGIES.own_keys("ngram")
@dataclass(kw_only=True)
class NgramKeys:
    """The lengths of runs of words."""

    max: int = key(3, within="[1, inf)", about="The longest run, in words.")


@STRATEGIES.own_keys("pmi")
@dataclass(kw_only=True)
class PmiKeys:
    """Which runs of words are collocations."""

    min_count: int = key(10, within="[1, inf)", about="How often a run of words occurs at least.")
    share: float = key(
        0.5, within="(0, 1]", about="Which share of these, the best of each length, is taken."
    )


@STRATEGIES.own_keys("frequency")
@dataclass(kw_only=True)
class FrequencyKeys:
    """How much rarer words are preferred."""

    exponent: float = key(
        0.5, within="[0, 2]", about="A word's rate is in proportion to its frequency ** -exponent."
    )
