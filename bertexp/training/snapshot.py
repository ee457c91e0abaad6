"""The training state that determines how a run continues, saved and restored to the last bit.

It includes no data, as a batch is a function of its step, and none of the optimizer's settings,
which are in the configuration. Tensors are safetensors unless they are sharded; numbers are JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bertexp import group
from bertexp.families.checkpoint import load_model
from bertexp.training import shards
from bertexp.training.checkpoints import Checkpoint
from bertexp.training.loop import Training
from bertexp.training.state import Window
from bertexp.validation import UserError

WEIGHTS_FILE = "model.safetensors"  # as ``save_pretrained`` calls it
TENSORS_FILE = "training.safetensors"


def progress(run: Training) -> dict[str, Any]:
    scaler = run.accelerator.scaler
    return {
        "step": run.state.step,
        "state": asdict(run.state),
        "window": run.window.plain(),
        "bad_in_a_row": run.bad_steps.in_a_row,
        "scaler": scaler.state_dict() if scaler else None,
    }


def write_tensors(run: Training, generators: list[dict[str, torch.Tensor]], folder: Path) -> None:
    """Write the states of all processes' ``generators``, and the optimizer's if not sharded."""
    tensors = {
        _generator(kind, rank): state
        for rank, states in enumerate(generators)
        for kind, state in states.items()
    }
    if not run.accelerator.is_fsdp2:
        tensors |= optimizer_states(run)
    save_file(tensors, folder / TENSORS_FILE)


def optimizer_states(run: Training) -> dict[str, torch.Tensor]:
    """Return the optimizer's state of each parameter, by names such as ``exp_avg/<parameter>``."""
    return {
        f"{key}/{name}": value
        for name, parameter in trained_parameters(run).items()
        for key, value in run.optimizer.state.get(parameter, {}).items()
    }


def trained_learner(run: Training) -> Any:
    """Return the learner, resharded: a forward pass leaves its weights gathered."""
    learner: Any = run.accelerator.unwrap_model(run.learner)
    if run.accelerator.is_fsdp2:
        learner.reshard()
    return learner


def trained_parameters(run: Training) -> dict[str, nn.Parameter]:
    learner = trained_learner(run)
    own = {f"own.{name}": each for name, each in learner.own.named_parameters()}
    return dict(learner.model.named_parameters()) | own


def generators(run: Training) -> dict[str, torch.Tensor]:
    """Return the states of this process's random generators, for dropout."""
    owners = _owners(run.accelerator.device)
    return {kind: owner.get_rng_state() for kind, owner in owners.items()}


def _owners(device: torch.device) -> dict[str, Any]:
    """Return the modules of torch that have a random generator, by its kind of device."""
    return {device.type: torch.get_device_module(device), "cpu": torch}


def restore(run: Training, checkpoint: Checkpoint) -> None:
    """Restore a run from a checkpoint of any number of processes.

    Raises:
        UserError: the checkpoint is of another model.
    """
    device, found = run.accelerator.device, checkpoint.progress
    load_learner(trained_learner(run), checkpoint.path)
    parameters = trained_parameters(run)
    tensors = load_file(checkpoint.path / TENSORS_FILE)
    if shards.has_shards(checkpoint.path):
        tensors |= _read_states(parameters, checkpoint.path)
    optimizer: Any = run.optimizer
    for name, parameter in parameters.items():
        for key in ("step", "exp_avg", "exp_avg_sq", "momentum_buffer"):
            if (value := tensors.get(f"{key}/{name}")) is not None:
                # A copy: the file's memory is not aligned like torch's.
                state = value.to(device, copy=True)
                optimizer.state[parameter][key] = (
                    state if key == "step" else shards.cut_like(parameter, state)
                )
    vars(run.state).update(found["state"])
    run.window = Window.of(found["window"], device)
    run.bad_steps.in_a_row = found["bad_in_a_row"]
    if run.accelerator.scaler and found["scaler"]:
        run.accelerator.scaler.load_state_dict(found["scaler"])
    # A process without a saved state keeps the seed of its rank.
    for kind, owner in _owners(device).items():
        if (generator := tensors.get(_generator(kind, group.rank()))) is not None:
            owner.set_rng_state(generator.clone())


def load_learner(learner: Any, folder: Path) -> None:
    """Load the weights of a saved model and of the modules beside it."""
    load_weights(learner.model, folder)
    learner.load_own(folder, lambda like, weight: shards.cut_like(like, weight))


def load_weights(model: nn.Module, folder: Path) -> None:
    """Load the weights of a saved model.

    Raises:
        UserError: it is of another model.
    """
    weights, own = load_file(folder / WEIGHTS_FILE), model.state_dict()
    if weights.keys() - own.keys():
        # Of some families transformers saves weights under older names.
        weights = load_model(str(folder), key="checkpoint").state_dict()
    try:
        parts = {n: shards.cut_like(own[n], w) if n in own else w for n, w in weights.items()}
        missing, unexpected = model.load_state_dict(parts, strict=False)
    except RuntimeError as error:
        missing, unexpected = [], [str(error).strip().splitlines()[-1].strip()]
    # Tied weights are saved once, under one of their names.
    state = model.state_dict()
    place = {name: shards.own_part(tensor).data_ptr() for name, tensor in state.items()}
    loaded = {place[name] for name in weights.keys() & state.keys()}
    if unexpected or any(place[name] not in loaded for name in missing):
        raise UserError(
            f"{folder}: is of another model ({', '.join([*missing, *unexpected][:3])})."
        )


def _generator(kind: str, rank: int) -> str:
    return f"generator/{kind}" + (f"/{rank}" if rank else "")


def _read_states(parameters: Mapping[str, nn.Parameter], folder: Path) -> dict[str, torch.Tensor]:
    states: dict[str, torch.Tensor] = {}
    for name, parameter in parameters.items():
        like = parameter.detach()
        states |= {f"{key}/{name}": torch.zeros_like(like) for key in ("exp_avg", "exp_avg_sq")}
        states[f"step/{name}"] = torch.zeros(())
    shards.read_shards(states, folder)
    return states
