"""The phases of a run made ready for the loop, and where each begins and ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

from accelerate import Accelerator
from torch.distributed.fsdp import register_fsdp_forward_method

from bertexp import group
from bertexp.families.trials import pack
from bertexp.objectives.learner import Learner
from bertexp.training.budget import Budget, Start, steps_ahead
from bertexp.training.checkpoints import Checkpoint
from bertexp.training.compiler import choose_compiling
from bertexp.training.graphs import can_record
from bertexp.training.loop import Phase, Training
from bertexp.training.machine import (
    AUTOCAST_TYPES,
    MEASURED_STEPS,
    machine_flops,
    measure_seconds_per_token,
)
from bertexp.training.optimizers import build_optimizer
from bertexp.training.plan import RECORDED_LENGTHS, BatchPlan
from bertexp.training.state import TrainState, Window
from bertexp.training.step import BadSteps
from bertexp.validation import UserError


def prepare_training(
    phases: Sequence[Phase],
    learner: Learner,
    accelerator: Accelerator,
    checkpoint: Checkpoint | None = None,
) -> list[Training]:
    """Build the optimizer and each phase's batches, and measure its steps.

    The phases share everything but what ``Phase`` has. ``restore`` loads the tensors, and
    ``begin_phase`` gives all but the first phase, or that of the checkpoint, its budget.

    Raises:
        UserError: a phase has no step, or the checkpoint is of another run.
    """
    config = phases[0].config
    prepared, optimizer = _prepare_model(phases, learner, accelerator)
    progress = checkpoint.progress if checkpoint else {}
    shared = {
        "accelerator": accelerator,
        "learner": prepared,
        "optimizer": optimizer,
        "state": TrainState(**progress.get("state", {})),
        "bad_steps": BadSteps(config.trainer.max_bad_steps),
        "machine_flops": machine_flops(accelerator),
        "unable": set[str](),
    }
    found = [_training(phase, learner, shared) for phase in phases]
    if progress:
        _give_rest(found, progress)
    elif len(found) > 1:
        check_shares(found)
    for training in found:
        learner.use(training.phase.heads)
        choose_compiling(training, learner)
    return found


def _prepare_model(
    phases: Sequence[Phase], learner: Learner, accelerator: Accelerator
) -> tuple[Any, Any]:
    """Return the model and its optimizer as Accelerate wraps them."""
    config = phases[0].config
    optimizer = build_optimizer(config.optimizer, learner)
    if len({frozenset(head.name for head in phase.heads) for phase in phases}) > 1:
        # A phase does not use the heads of others, whose gradients are not waited for.
        accelerator.ddp_handler.find_unused_parameters = True
    prepared, wrapped = accelerator.prepare(learner, optimizer)
    if accelerator.is_fsdp2:
        register_fsdp_forward_method(prepared, "logits")
    return prepared, wrapped


def _training(phase: Phase, learner: Learner, shared: dict[str, Any]) -> Training:
    config, accelerator = phase.config, shared["accelerator"]
    learner.use(phase.heads)
    recorded = can_record(config, accelerator, learner)
    place = (config.seed, group.rank(), group.size())
    batches = BatchPlan.of(phase.examples, config, *place, _packs(learner, accelerator))
    if recorded:
        batches = batches.in_few_shapes(RECORDED_LENGTHS)
    tokens = float(phase.examples.lengths(0).sum() / batches.steps_per_epoch)

    @cache
    def pace() -> float:
        learner.use(phase.heads)
        # Batches differ in length: measure steps from the whole epoch, not the first ones.
        sample = (batches[number] for number in batches.spread(MEASURED_STEPS))
        return tokens * measure_seconds_per_token(
            shared["learner"], accelerator, sample, phase.weights
        )

    return Training(
        phase=phase,
        batches=batches,
        budget=Budget.of(config.trainer, batches.steps_per_epoch, end=phase.high),
        window=Window(phase.weights),
        tokens_per_step=tokens,
        pace=pace,
        recorded=recorded,
        **shared,
    )


def _packs(learner: Learner, accelerator: Accelerator) -> bool:
    """Whether the family leaves out padding, and no objective encodes its own inputs."""
    dtype = AUTOCAST_TYPES.get(accelerator.mixed_precision)
    whole = all(head.is_recordable and not head.encodes for head in learner.heads.values())
    return whole and dtype is not None and pack(learner.family, accelerator.device, dtype)


def _give_rest(trainings: Sequence[Training], progress: Mapping[str, Any]) -> None:
    """Give the phase of a checkpoint what is left of its budget."""
    number = progress["phase"]
    if number >= len(trainings):
        raise UserError(f"phases: the run to resume is in phase {number + 1} already.")
    resumed = trainings[number]
    examples, per_epoch = len(resumed.phase.examples), resumed.batches.steps_per_epoch
    ahead = steps_ahead(progress, examples, per_epoch)
    resumed.budget = budget_of(resumed, ahead, Start(**progress["start"]))


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
