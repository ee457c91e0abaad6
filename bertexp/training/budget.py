"""The share of the budget that is spent, and the learning rate that follows from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bertexp.training.config import SchedulerConfig, TrainerConfig
from bertexp.training.state import TrainState

# The assumed share of the first step if only tokens or time are limited: its cost is unknown.
FIRST_STEP = 1e-3
# A budget that is exceeded by more than this factor is reported.
NOTABLE = 1.05


@dataclass(frozen=True)
class Start:
    """What a run had spent, and its epochs, when a phase began."""

    step: int = 0
    examples: int = 0
    tokens: int = 0
    seconds: float = 0.0
    epochs: float = 0.0


# Where a run's first phase begins.
ORIGIN = Start()


@dataclass(frozen=True)
class Budget:
    """What a run may spend up to the end of a phase: steps, tokens and seconds of training.

    None is no limit. Shares are those of the phase, 0 at its start and 1 at the first limit; most
    runs have only one phase::

        run         0 ------- start ------- state.step ------- steps
        its data    0 ----- position --- state.step + ahead

    Attributes:
        ahead: the position in the data minus the number of steps, in steps: not 0 only in a phase
            whose epochs have another number of steps than those before, or after the run was
            resumed with another batch size, see ``steps_ahead``.
        start: where the phase began.
        position: in the data, in steps, where the phase began.
    """

    steps: int | None
    tokens: int | None
    seconds: float | None
    ahead: int = 0
    start: Start = ORIGIN
    position: int = 0

    @classmethod
    def of(
        cls,
        config: TrainerConfig,
        steps_per_epoch: int,
        ahead: int = 0,
        start: Start = ORIGIN,
        end: float = 1.0,
    ) -> Budget:
        """Return the budget of ``trainer.*`` up to its share ``end``.

        Of epochs and steps it is the lower.
        """
        limits = []
        if config.epochs is not None:
            place = end * config.epochs * steps_per_epoch
            # Only a run's end is rounded up: shares are hardly ever exact.
            whole = math.ceil(place) if end == 1 else round(place)
            limits.append(max(whole - ahead, start.step, 1))
        if config.max_steps is not None:
            limits.append(round(end * config.max_steps))
        return cls(
            steps=min(limits) if limits else None,
            tokens=None if config.max_tokens is None else round(end * config.max_tokens),
            seconds=None if config.max_time is None else end * config.max_time * 60,
            ahead=ahead,
            start=start,
            position=round(start.epochs * steps_per_epoch),
        )

    def covers(self, other: Budget) -> bool:
        mine, theirs = ((each.steps, each.tokens, each.seconds) for each in (self, other))
        pairs = zip(mine, theirs, strict=True)
        return all(own is None or (its is not None and own >= its) for own, its in pairs)

    def fraction(self, state: TrainState) -> float:
        """Return the largest share of a limit that is spent; 1 once stopped."""
        return 1.0 if state.stopped else self._share_after(state, state.step - self.start.step)

    def midway(self, state: TrainState) -> float:
        """Return the share that will be spent in the middle of the next step.

        Schedules follow it, so that neither the first nor the last step has a learning rate of 0.
        The step is assumed to cost the mean of those before it.
        """
        return max(self._share_after(state, state.step - self.start.step + 0.5), FIRST_STEP)

    def progress(self, step: int, tokens_per_step: float, seconds: float) -> float:
        """Return the share that will be spent in the middle of ``step``, at most 1.

        Batches are made before earlier steps have been trained on, so the tokens are expected
        ones, and ``seconds`` those that have passed when the batches are made. Without a limit in
        seconds it is a function of the step alone.
        """
        middle, start = step + 0.5, self.start
        tokens = (middle + self.ahead - self.position) * tokens_per_step
        return min(1.0, self._share_of(middle - start.step, tokens, seconds - start.seconds))

    def expected_steps(
        self, state: TrainState, tokens_per_step: float, seconds_per_step: float
    ) -> int:
        """Return the step at which the first limit is expected to end the run."""
        left = [math.inf if self.steps is None else self.steps - state.step]
        if self.tokens is not None:
            left.append((self.tokens - state.tokens) / tokens_per_step)
        if self.seconds is not None:
            left.append((self.seconds - state.seconds) / seconds_per_step)
        return state.step + max(math.ceil(min(left)), 0)

    def overshoot(self, state: TrainState) -> str | None:
        """Return a note if a limit was clearly exceeded: the last step is never cut short."""
        spent = []
        if self.tokens is not None and state.tokens > NOTABLE * self.tokens:
            spent.append(f"{state.tokens:,} tokens for trainer.max_tokens={self.tokens}")
        if self.seconds is not None and state.seconds > NOTABLE * self.seconds:
            limit = f"trainer.max_time={self.seconds / 60:g}"
            spent.append(f"{state.seconds / 60:.3g} minutes for {limit}")
        return f"{', '.join(spent)}: the last step is a whole one" if spent else None

    def _share_after(self, state: TrainState, steps: float) -> float:
        """Return the share after steps of the phase that cost the mean of those so far."""
        start = self.start
        scale = steps / max(state.step - start.step, 1)
        tokens = (state.tokens - start.tokens) * scale
        return self._share_of(steps, tokens, (state.seconds - start.seconds) * scale)

    def _share_of(self, steps: float, tokens: float, seconds: float) -> float:
        """Return the largest share of a limit that these are, spent since the phase began."""
        start = self.start
        limits = (
            (self.steps, start.step, steps),
            (self.tokens, start.tokens, tokens),
            (self.seconds, start.seconds, seconds),
        )
        # A phase before may have gone beyond this one's end: a step is never cut short.
        return max(
            spent / (limit - first) if limit > first else 1.0
            for limit, first, spent in limits
            if limit is not None
        )


def steps_ahead(progress: Mapping[str, Any], examples: int, steps_per_epoch: int) -> int:
    """Return ``Budget.ahead`` of a resumed run.

    It is unchanged with as many steps an epoch as before. With another number, because the batch
    size or the data changed, the run resumes after the share of its data that it has seen.
    """
    if progress["steps_per_epoch"] == steps_per_epoch:
        return int(progress["ahead"])
    start = Start(**progress["start"])
    seen = start.epochs + (progress["state"]["examples"] - start.examples) / examples
    return round(seen * steps_per_epoch) - int(progress["step"])


def learning_rate_factor(config: SchedulerConfig, progress: float) -> float:
    """Return the factor of the peak learning rate at ``progress`` in [0, 1]."""
    if progress < config.warmup:
        return progress / config.warmup
    if config.name == "constant":
        return 1.0
    remaining = (1 - min(progress, 1.0)) / (1 - config.warmup)
    return remaining if config.name == "linear" else (1 - math.cos(math.pi * remaining)) / 2
