"""The keys of ``masking.*``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bertexp.keys import key
from bertexp.masking import STRATEGIES
from bertexp.masking.rates import Distribution, read_rate
from bertexp.validation import UserError, is_number, require, require_shares

# How units are drawn, see ``Masker``.
DRAWS = ("budget", "independent")
T = TypeVar("T")

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
        shares = {"mask": self.mask, "random": self.random, "keep": self.keep}
        require_shares("masking.replace", shares)


@dataclass(kw_only=True)
class ScheduleConfig:
    """What changes over a run's budget; lists are of [share of the budget, new value].

    The rate goes from ``masking.prob`` to ``end`` or through ``rates``, see ``MaskingConfig.rate``.
    A strategy or a replacement is used from its share on.
    """

    name: str = key("constant", choices=SCHEDULES)
    end: float | None = key(None, within="(0, 1)")
    at: float = key(0.5, within="(0, 1)", read_with=("masking.schedule.name", "step"))
    rates: list[Any] = field(default_factory=list)
    strategies: list[Any] = field(default_factory=list)
    replacements: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        constant = self.name == "constant"
        allowed = f"null where masking.schedule.name={self.name}" if constant else "between 0 and 1"
        if self.rates:
            others = ", ".join(SCHEDULES[1:])
            require(not constant, "masking.schedule.name", self.name, f"one of {others} with rates")
            require(self.end is None, "masking.schedule.end", self.end, "null with rates")
            require(self.at == 0.5, "masking.schedule.at", self.at, "left out with rates")
        else:
            require(constant == (self.end is None), "masking.schedule.end", self.end, allowed)
        _check_changes("rates", self.rates, last=True)
        for _, rate in self.rates:
            fits = is_number(rate) and 0 < rate < 1
            require(fits, "masking.schedule.rates", self.rates, "rates between 0 and 1")
        _check_changes("strategies", self.strategies)
        for _, name in self.strategies:
            STRATEGIES.check(name, "masking.schedule.strategies")
        _check_changes("replacements", self.replacements)
        for _, shares in self.replacements:
            _read_replacement(shares)

    @property
    def points(self) -> list[tuple[float, float]]:
        """The rates after the first one, each with its share of the budget, in order."""
        if self.end is None:
            return [(at, rate) for at, rate in self.rates]
        return [(self.at if self.name == "step" else 1.0, self.end)]


def _check_changes(name: str, changes: list[Any], *, last: bool = False) -> None:
    """Check a list of [share, value]; ``last``: a share may be 1."""
    key_, before = f"masking.schedule.{name}", 0.0
    for each in changes:
        pair = isinstance(each, list) and len(each) == 2 and is_number(each[0])
        require(pair, key_, changes, "a list of [share of the budget, value]")
        above = before < each[0] < 1 or (last and before < each[0] == 1)
        require(above, key_, changes, "in the order of their shares, which are between 0 and 1")
        before = each[0]


def _read_replacement(shares: Any) -> ReplaceConfig:
    key_, names = "masking.schedule.replacements", ("mask", "random", "keep")
    given = shares if isinstance(shares, dict) else {}
    fits = {*given} == {*names} and all(is_number(each) and each >= 0 for each in given.values())
    allowed = "{mask: ..., random: ..., keep: ...}, shares that add up to 1"
    if missing := [name for name in names if name not in given]:
        allowed += f"; {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    require(fits, key_, shares, allowed)
    require_shares(key_, given)
    return ReplaceConfig(**given)


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

    @property
    def strategies(self) -> list[tuple[float, str]]:
        """Every strategy, with the share of the budget from which on it is used."""
        return [(0.0, self.strategy), *((at, name) for at, name in self.schedule.strategies)]

    @property
    def replacements(self) -> list[tuple[float, ReplaceConfig]]:
        """Every replacement, with the share of the budget from which on it is used."""
        later = [(at, _read_replacement(each)) for at, each in self.schedule.replacements]
        return [(0.0, self.replace), *later]

    @property
    def stages(self) -> list[float]:
        """The shares of the budget at which something begins or ends to change, from 0."""
        parts = (self.schedule.points, self.strategies, self.replacements)
        return sorted({at for part in parts for at, _ in part} | {0.0})

    def rate(self, progress: float) -> float | None:
        """Return the mask rate at ``progress``, the share of the budget that is spent, in [0, 1].

        None if each example draws its own.

        It goes from ``prob`` to each of the schedule's rates linearly, along half a cosine, or in
        a step, and stays at the last. The linear decay from 0.30 to 0.15 is Ankner et al. 2024,
        "Dynamic masking rate schedules for MLM pretraining"; cosines are in Yang et al. 2023,
        "Learning better masking for better language model pre-training".
        """
        schedule, first = self.schedule, self.drawn
        if not isinstance(first, float):
            return None
        begin, before = 0.0, first
        for end, after in schedule.points:
            if progress < end:
                if schedule.name == "step":
                    return before
                done = max(progress - begin, 0.0) / (end - begin)
                if schedule.name == "cosine":
                    done = (1 - math.cos(math.pi * done)) / 2
                return before + (after - before) * done
            begin, before = end, after
        return before

    def __post_init__(self) -> None:
        if not isinstance(self.drawn, float) and self.schedule.points:
            raise UserError(
                f"masking.schedule.name={self.schedule.name}: moves one rate for all examples; "
                f"with masking.prob={self.prob} each has its own."
            )
        if not self.dynamic and self.copies not in (None, 1):
            raise UserError(
                f"masking.copies={self.copies}: masking.dynamic=false has one copy; set "
                "masking.dynamic=true to repeat the masks of that many epochs."
            )


def at_share(changes: Sequence[tuple[float, T]], progress: float) -> T:
    """Return the last of the values whose share of the budget is reached."""
    return [value for share, value in changes if share <= max(progress, 0.0)][-1]


@STRATEGIES.own_keys("span")
@dataclass(kw_only=True)
class SpanKeys:
    """The lengths of spans."""

    p: float = key(0.2, within="(0, 1)", about="Parameter of their geometric distribution.")
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


@STRATEGIES.own_keys("adaptive")
@dataclass(kw_only=True)
class AdaptiveKeys:
    """How rates follow the model."""

    follows: str = key(
        "accuracy",
        choices=("accuracy", "loss"),
        about="A token's rate is in proportion to the share of its predictions that are wrong, or "
        "to their loss.",
    )
    every: int = key(100, within="[1, inf)", about="Steps between two updates of the rates.")


@STRATEGIES.own_keys("frequency")
@dataclass(kw_only=True)
class FrequencyKeys:
    """How much rarer words are preferred."""

    exponent: float = key(
        0.5, within="[0, 2]", about="A word's rate is in proportion to its frequency ** -exponent."
    )
