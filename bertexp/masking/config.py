"""The keys of ``masking.*``."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from bertexp.keys import key
from bertexp.masking import STRATEGIES
from bertexp.masking.rates import Distribution, read_rate
from bertexp.validation import UserError, require

# How units are drawn, see ``Masker``.
DRAWS = ("budget", "independent")
SCHEDULES = ("constant", "linear", "cosine", "step")


@dataclass(kw_only=True)
class ReplaceConfig:
    """The shares of predicted tokens that become the mask token or a random one, or stay.

    With ``special``, random tokens may be special ones.
    """

    mask: float = key(within="[0, 1]")
    random: float = key(within="[0, 1]")
    keep: float = key(within="[0, 1]")
    special: bool = key(False, read_with=("masking.replace.random",))

    def __post_init__(self) -> None:
        total = self.mask + self.random + self.keep
        if not math.isclose(total, 1, abs_tol=1e-6):
            raise UserError(
                f"masking.replace: mask={self.mask} + random={self.random} + keep={self.keep} "
                f"is {total:g}; the three shares must add up to 1."
            )


@dataclass(kw_only=True)
class ScheduleConfig:
    """How the rate changes over a run's budget, see ``MaskingConfig.rate``."""

    name: str = key("constant", choices=SCHEDULES)
    end: float | None = key(None, within="(0, 1)")
    at: float = key(0.5, within="(0, 1)", read_with=("masking.schedule.name", "step"))

    def __post_init__(self) -> None:
        constant = self.name == "constant"
        allowed = f"null where masking.schedule.name={self.name}" if constant else "between 0 and 1"
        require(constant == (self.end is None), "masking.schedule.end", self.end, allowed)


@dataclass(kw_only=True)
class MaskingConfig:
    """How many tokens a model has to predict, which ones, and what replaces them."""

    prob: Any
    strategy: str = key(choices=STRATEGIES)
    replace: ReplaceConfig
    corrupt_prob: float | None = key(None, within="(0, 1)")
    draw: str = key("budget", choices=DRAWS)
    at_least_one: bool = False
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    dynamic: bool = True
    copies: int | None = key(None, within="[1, inf)")

    @property
    def drawn(self) -> float | Distribution:
        """The rate of all examples, or the distribution that each draws its own from."""
        return read_rate(self.prob)

    def rate(self, progress: float) -> float | None:
        """Return the mask rate at ``progress``, the share of the budget that is spent, in [0, 1].

        None if each example draws its own.

        It changes from ``prob`` to ``schedule.end`` linearly, along half a cosine, or in one step
        at ``schedule.at``. The linear decay from 0.30 to 0.15 is Ankner et al. 2024, "Dynamic
        masking rate schedules for MLM pretraining"; cosines are in Yang et al. 2023, "Learning
        better masking for better language model pre-training".
        """
        schedule, first = self.schedule, self.drawn
        if not isinstance(first, float):
            return None
        if schedule.end is None:
            return first
        if schedule.name == "step":
            return schedule.end if progress >= schedule.at else first
        done = min(max(progress, 0.0), 1.0)
        if schedule.name == "cosine":
            done = (1 - math.cos(math.pi * done)) / 2
        return first + (schedule.end - first) * done

    def __post_init__(self) -> None:
        if not isinstance(self.drawn, float) and self.schedule.end is not None:
            raise UserError(
                f"masking.schedule.name={self.schedule.name}: moves one rate for all examples; "
                f"with masking.prob={self.prob} each has its own."
            )
        if not self.dynamic and self.copies not in (None, 1):
            raise UserError(
                f"masking.copies={self.copies}: masking.dynamic=false has one copy; set "
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
