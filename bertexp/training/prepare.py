"""The phases of a run made ready for the loop, with a measurement of their steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accelerate import Accelerator
from torch.distributed.fsdp import register_fsdp_forward_method

from bertexp import group
from bertexp.objectives.learner import Learner
from bertexp.training.bad_steps import BadSteps
from bertexp.training.borders import budget_of, check_shares
from bertexp.training.budget import Budget, begun, steps_ahead
from bertexp.training.checkpoints import Checkpoint
from bertexp.training.graphs import can_record
from bertexp.training.loop import Training
from bertexp.training.machine import MEASURED_STEPS, machine_flops, measure_seconds_per_token
from bertexp.training.phase import Phase
from bertexp.training.plan import BatchPlan
from bertexp.training.setup import build_optimizer
from bertexp.training.state import TrainState, Window
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
    recorded = [_is_recorded(phase, learner, accelerator) for phase in phases]
    place = (config.seed, group.rank(), group.size())
    plans = [
        BatchPlan.of(
            phase.examples, phase.config, *place, is_recorded, _packs(phase, learner, accelerator)
        )
        for phase, is_recorded in zip(phases, recorded, strict=True)
    ]
    prepared, optimizer = _prepare_model(phases, learner, accelerator, plans)
    progress = checkpoint.progress if checkpoint else {}
    shared = {
        "accelerator": accelerator,
        "learner": prepared,
        "optimizer": optimizer,
        "state": TrainState(**progress.get("state", {})),
        "bad_steps": BadSteps(config.trainer.max_bad_steps),
        "machine_flops": machine_flops(accelerator),
    }
    found = []
    for phase, batches, is_recorded in zip(phases, plans, recorded, strict=True):
        learner.use(phase.heads)
        found.append(_training(phase, batches, is_recorded, shared))
    if progress:
        _give_rest(found, progress)
    elif len(found) > 1:
        check_shares(found)
    return found


def _prepare_model(
    phases: Sequence[Phase], learner: Learner, accelerator: Accelerator, plans: list[BatchPlan]
) -> tuple[Any, Any]:
    """Return the model and its optimizer as Accelerate wraps them."""
    config = phases[0].config
    if config.hardware.compile:
        learner.family.compile(frozenset[tuple[int, int]]().union(*(plan.shapes for plan in plans)))
    optimizer = build_optimizer(config.optimizer, learner)
    if len({frozenset(head.name for head in phase.heads) for phase in phases}) > 1:
        # A phase does not use the heads of others, whose gradients are not waited for.
        accelerator.ddp_handler.find_unused_parameters = True
    prepared, wrapped = accelerator.prepare(learner, optimizer)
    if accelerator.is_fsdp2:
        register_fsdp_forward_method(prepared, "logits")
    return prepared, wrapped


def _training(
    phase: Phase, batches: BatchPlan, is_recorded: bool, shared: dict[str, Any]
) -> Training:
    # Batches differ in length: measure steps from the whole epoch, not the first ones.
    sample = (batches[number] for number in batches.spread(MEASURED_STEPS))
    model, accelerator = shared["learner"], shared["accelerator"]
    seconds = measure_seconds_per_token(model, accelerator, sample, phase.weights)
    tokens = float(phase.examples.lengths(0).sum() / batches.steps_per_epoch)
    return Training(
        phase=phase,
        batches=batches,
        budget=Budget.of(phase.config.trainer, batches.steps_per_epoch, end=phase.high),
        window=Window(phase.weights),
        tokens_per_step=tokens,
        step_seconds=tokens * seconds,
        recorded=is_recorded,
        **shared,
    )


def _is_recorded(phase: Phase, learner: Learner, accelerator: Accelerator) -> bool:
    learner.use(phase.heads)
    return can_record(phase.config.hardware, accelerator, learner)


def _packs(phase: Phase, learner: Learner, accelerator: Accelerator) -> bool:
    """Whether the family leaves out padding in a phase, and no objective encodes its own inputs."""
    learner.use(phase.heads)
    half = accelerator.mixed_precision in ("bf16", "fp16")
    whole = all(head.is_recordable and not head.encodes for head in phase.heads)
    return half and whole and learner.family.can_pack(accelerator.device)


def _give_rest(trainings: Sequence[Training], progress: Mapping[str, Any]) -> None:
    """Give the phase of a checkpoint what is left of its budget."""
    number = progress.get("phase", 0)
    if number >= len(trainings):
        raise UserError(f"phases: the run to resume is in phase {number + 1} already.")
    resumed = trainings[number]
    examples, per_epoch = len(resumed.phase.examples), resumed.batches.steps_per_epoch
    ahead = steps_ahead(progress, examples, per_epoch)
    resumed.budget = budget_of(resumed, ahead, begun(progress))
