"""Mask rates that are drawn for each example, instead of one for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from bertexp.validation import UserError, is_number, nearest, require, require_choice

if TYPE_CHECKING:
    import numpy as np

KEY = "masking.prob"


@dataclass(frozen=True)
class _Distribution:
    """A distribution of rates.

    Attributes:
        stratified: whether each batch has low and high rates in the same proportions. Sahoo et al.
            2024 spread the rates of a batch evenly, which makes an example's rate depend on its
            batch; here each example draws its own, and batches are chosen by it, see
            ``BatchPlan``.
    """

    stratified: bool = field(default=False, kw_only=True)

    @property
    def suffix(self) -> str:
        return "-stratified" if self.stratified else ""


@dataclass(frozen=True)
class Uniform(_Distribution):
    """Any rate between two others, all as likely."""

    low: float
    high: float

    def __post_init__(self) -> None:
        require(0 <= self.low < 1, f"{KEY}.low", self.low, "at least 0 and below 1")
        allowed = f"above {KEY}.low={self.low:g} and at most 1"
        require(self.low < self.high <= 1, f"{KEY}.high", self.high, allowed)

    def quantile(self, share_B: np.ndarray) -> np.ndarray:
        return self.low + (self.high - self.low) * share_B

    def __str__(self) -> str:
        return f"{self.low:g}-{self.high:g}{self.suffix}"


@dataclass(frozen=True)
class Beta(_Distribution):
    """The beta distribution, over all rates between 0 and 1."""

    alpha: float
    beta: float

    def __post_init__(self) -> None:
        for name, value in (("alpha", self.alpha), ("beta", self.beta)):
            require(0 < value < float("inf"), f"{KEY}.{name}", value, "above 0 and finite")

    def quantile(self, share_B: np.ndarray) -> np.ndarray:
        from scipy.special import betaincinv

        return betaincinv(self.alpha, self.beta, share_B)

    def __str__(self) -> str:
        return f"beta{self.alpha:g}-{self.beta:g}{self.suffix}"


@dataclass(frozen=True)
class Choice(_Distribution):
    """One of several rates, in ascending order, each with its share of the examples."""

    rates: list[float]
    shares: list[float]

    def __post_init__(self) -> None:
        for name, values in (("rates", self.rates), ("shares", self.shares)):
            allowed = "a list of numbers above 0 and at most 1"
            is_list = isinstance(values, list) and len(values) > 0
            fits = is_list and all(is_number(each) and 0 < each <= 1 for each in values)
            require(fits, f"{KEY}.{name}", values, allowed)
        require(sorted(self.rates) == self.rates, f"{KEY}.rates", self.rates, "in ascending order")
        fits = len(self.shares) == len(self.rates) and abs(sum(self.shares) - 1) < 1e-6
        allowed = f"{len(self.rates)} numbers that add up to 1"
        require(fits, f"{KEY}.shares", self.shares, allowed)

    def quantile(self, share_B: np.ndarray) -> np.ndarray:
        import numpy as np

        # The last border is 1, up to rounding.
        borders = np.cumsum(self.shares)[:-1]
        return np.array(self.rates)[np.searchsorted(borders, share_B, side="right")]

    def __str__(self) -> str:
        return "or".join(f"{rate:g}" for rate in self.rates) + self.suffix


Distribution = Uniform | Beta | Choice
_KINDS: dict[str, type[Distribution]] = {"uniform": Uniform, "beta": Beta, "choice": Choice}


def read_rate(prob: Any) -> float | Distribution:
    """Return the rate that ``masking.prob`` sets, or what it is drawn from for each example."""
    if not isinstance(prob, Mapping):
        allowed = "a number above 0 and at most 1, or a distribution such as "
        allowed += "{distribution: uniform, low: 0, high: 1}"
        require(is_number(prob) and 0 < prob <= 1, KEY, prob, allowed)
        return float(prob)
    values = dict(prob)
    if "distribution" not in values:
        example = "{distribution: uniform, low: 0.1, high: 0.5}"
        names = f"one of {', '.join(_KINDS)}"
        raise UserError(f"{KEY}.distribution: is missing; set {names}, as in {example}.")
    name = str(values.pop("distribution"))
    require_choice(f"{KEY}.distribution", name, _KINDS)
    kind = _KINDS[name]
    _check_keys(name, [*values], kind)
    numbers = [
        each for key, each in values.items() if key != "stratified" and not isinstance(each, list)
    ]
    require(all(map(is_number, numbers)), KEY, dict(prob), "numbers")
    stratified = values.get("stratified", False)
    require(isinstance(stratified, bool), f"{KEY}.stratified", stratified, "true or false")
    return kind(**values)


def _check_keys(name: str, given: list[str], kind: type[Distribution]) -> None:
    known = [each.name for each in fields(kind)]
    if unknown := [key for key in given if key not in known]:
        hints = "".join(nearest(key, known) for key in unknown)
        raise UserError(
            f"{KEY}: distribution={name} has no {' and no '.join(unknown)}; its keys are "
            f"{', '.join(known)}.{hints}"
        )
    needed = [each.name for each in fields(kind) if each.default is MISSING]
    if missing := [key for key in needed if key not in given]:
        raise UserError(f"{KEY}: distribution={name} needs {' and '.join(missing)} too.")
