"""How much of a run is done, and what that means for the learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bertexp.training.config import SchedulerConfig, TrainerConfig
from bertexp.training.state import TrainState

# What a first step is taken to be worth where only tokens or time are limited: it is not known yet.
FIRST_STEP = 1e-3


@dataclass(frozen=True)
class Budget:
    """What a run may spend: steps, tokens and seconds of training, None for no limit."""

    steps: int | None
    tokens: int | None
    seconds: float | None

    @classmethod
    def of(cls, config: TrainerConfig, steps_per_epoch: int) -> Budget:
        """Return the budget of ``trainer.*``; epochs and steps become the lower of the two."""
        limits = []
        if config.epochs is not None:
            limits.append(math.ceil(config.epochs * steps_per_epoch))
        if config.max_steps is not None:
            limits.append(config.max_steps)
        return cls(
            steps=min(limits) if limits else None,
            tokens=config.max_tokens,
            seconds=None if config.max_time is None else config.max_time * 60,
        )

    def covers(self, other: Budget) -> bool:
        """Whether what ``other`` may spend, this one may spend too."""
        pairs = (
            (self.steps, other.steps),
            (self.tokens, other.tokens),
            (self.seconds, other.seconds),
        )
        return all(
            mine is None or (theirs is not None and mine >= theirs) for mine, theirs in pairs
        )

    def fraction(self, state: TrainState) -> float:
        """Return the share of the budget that is spent, of whichever limit is nearest.

        There is nothing left of it for a run that was stopped.
        """
        return 1.0 if state.stopped else self._nearest(state, steps=state.step)

    def midway(self, state: TrainState) -> float:
        """Return the share that is spent in the middle of the step to come.

        Schedules go by it, so that neither the first nor the last step is one of a
        learning rate of 0. The step is taken to be worth what the steps before it were.
        """
        return max(self._nearest(state, steps=state.step + 0.5), FIRST_STEP)

    def progress(self, step: int, tokens_per_step: float, seconds: float) -> float:
        """Return the share that will be spent in the middle of ``step``, at most 1.

        Known when a step's batches are made, before those of earlier steps were trained on:
        so tokens are expected ones, and ``seconds`` those that have passed by then. Without
        a limit in seconds it is a function of the step alone.
        """
        middle = step + 0.5
        spent = (
            (self.steps, middle),
            (self.tokens, middle * tokens_per_step),
            (self.seconds, seconds),
        )
        return min(1.0, max(value / limit for limit, value in spent if limit is not None))

    def expected_steps(self, tokens_per_step: float, seconds_per_step: float) -> int:
        """Return the steps after which the first limit ends the run, at the rates given."""
        limits = [math.inf if self.steps is None else self.steps]
        if self.tokens is not None:
            limits.append(self.tokens / tokens_per_step)
        if self.seconds is not None:
            limits.append(self.seconds / seconds_per_step)
        return math.ceil(min(limits))

    def _nearest(self, state: TrainState, steps: float) -> float:
        scale = steps / max(state.step, 1)
        spent = (
            (self.steps, steps),
            (self.tokens, state.tokens * scale),
            (self.seconds, state.seconds * scale),
        )
        return max(value / limit for limit, value in spent if limit is not None)


def learning_rate_factor(config: SchedulerConfig, progress: float) -> float:
    """Return what the peak learning rate is multiplied with at ``progress`` in [0, 1]."""
    if progress < config.warmup:
        return progress / config.warmup
    if config.name == "constant":
        return 1.0
    remaining = (1 - min(progress, 1.0)) / (1 - config.warmup)
    return remaining if config.name == "linear" else (1 - math.cos(math.pi * remaining)) / 2
