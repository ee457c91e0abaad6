"""The borders between phases: where the next one begins, and where each is expected to end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from bertexp.training.budget import Budget, Start
from bertexp.training.loop import Training
from bertexp.validation import UserError


def begin_phase(training: Training, before: Training) -> None:
    """Give a phase its budget, which begins where the phase ``before`` has ended.

    Its epochs continue those of the phase before: where both have the same examples and steps, the
    order of the examples is that of a run without phases.
    """
    state = before.state
    place = state.step + before.budget.ahead
    epochs = place / before.batches.steps_per_epoch
    start = Start(state.step, state.examples, state.tokens, state.seconds, epochs)
    ahead = round(epochs * training.batches.steps_per_epoch) - state.step
    training.budget = budget_of(training, ahead, start)


def outlook(trainings: Sequence[Training]) -> list[int]:
    """Return the step at which each phase is expected to end; the first is in progress."""
    first, ends = trainings[0], []
    now = replace(first, state=replace(first.state))
    for training in trainings:
        following = replace(training, state=now.state)
        if training is not first:
            begin_phase(following, now)
        state, budget = following.state, following.budget
        seconds = training.pace() if budget.seconds is not None else 0.0
        steps = budget.expected_steps(state, training.tokens_per_step, seconds) - state.step
        state.step += steps
        state.tokens += round(steps * training.tokens_per_step)
        state.seconds += steps * seconds
        ends.append(state.step)
        now = following
    return ends


def check_shares(trainings: Sequence[Training]) -> None:
    """Raise a ``UserError`` for a phase whose share of the budget is too small for a step."""
    for number, (begin, end) in enumerate(pairwise([0, *outlook(trainings)]), start=1):
        if begin == end:
            raise UserError(
                f"phases: phase {number} has no step, as its share of the budget is less than one; "
                "give it a larger share, or the run a larger budget."
            )


def budget_of(training: Training, ahead: int, start: Start) -> Budget:
    """Return the budget of a phase that begins at ``start``, see ``Budget``."""
    phase, per_epoch = training.phase, training.batches.steps_per_epoch
    return Budget.of(phase.config.trainer, per_epoch, ahead, start, phase.high)
