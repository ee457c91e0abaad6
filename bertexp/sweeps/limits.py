"""The margin and the budget of ``hydra/sweeper=resolve``, and the seeds it begins with."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bertexp.sweeps.points import Varied, grid
from bertexp.validation import UserError, require

START_SEEDS = 3


@dataclass(frozen=True)
class Limits:
    """The keys ``hydra.sweeper.*``, explained in ``conf/hydra/sweeper/resolve.yaml``.

    Raises:
        UserError: a value is not allowed.
    """

    margin: float
    metric: str | None
    max_seeds: int
    max_time: float | None
    start_seeds: int | None
    per_round: int

    def __post_init__(self) -> None:
        for name in ("max_seeds", "start_seeds", "per_round"):
            found = getattr(self, name)
            fits = (isinstance(found, int) and found > 0) or (found is None and "start" in name)
            require(fits, f"hydra.sweeper.{name}", found, "a whole number above 0")
        fits = _is_number(self.margin) and self.margin >= 0
        require(fits, "hydra.sweeper.margin", self.margin, "a number, 0 or above")
        fits = self.max_time is None or (_is_number(self.max_time) and self.max_time > 0)
        require(fits, "hydra.sweeper.max_time", self.max_time, "minutes above 0, or null")

    def first_seeds(self, varied: Varied, seed: int) -> list[int]:
        """Return the seeds of the first round: those listed, or some that count up from ``seed``.

        Raises:
            UserError: a seed is no number, or ``start_seeds`` and a list are both given.
        """
        swept = grid({"seed": varied["seed"]}, ()) if "seed" in varied else []
        listed = [point.partition("=")[2] for (point,) in swept]
        for value in listed:
            require(value.isdecimal(), "seed", value, "a whole number, 0 or above")
        if len(listed) > 1:
            if self.start_seeds is not None:
                raise UserError(
                    f"hydra.sweeper.start_seeds={self.start_seeds}: seed={','.join(listed)} lists "
                    "the seeds to start with; leave out one of the two."
                )
            return self._within([*map(int, listed)])
        first = int(listed[0]) if listed else seed
        return self._within([*range(first, first + (self.start_seeds or START_SEEDS))])

    def _within(self, seeds: list[int]) -> list[int]:
        allowed = f"at least the {len(seeds)} seeds to start with"
        require(len(seeds) <= self.max_seeds, "hydra.sweeper.max_seeds", self.max_seeds, allowed)
        return seeds


def _is_number(found: object) -> bool:
    return isinstance(found, int | float) and math.isfinite(found)
