"""Sharded weights and optimizer states, of ``hardware.sharded``: gathered, saved and restored.

The tensors of other runs are returned as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


def gathered_weights(learner: Any) -> dict[str, Tensor] | None:
    """Return the model's whole weights on the CPU, None if they are whole already.

    All processes take part.
    """
    if not isinstance(learner, FSDPModule):
        return None
    learner.reshard()
    model: Any = learner.model  # type: ignore[attr-defined]
    return {name: whole(weight).cpu() for name, weight in model.state_dict().items()}


def own_weights(learner: Any, to_export: bool = False) -> dict[str, Tensor]:
    """Return the whole weights of modules beside the model; all processes take part."""
    if isinstance(learner, FSDPModule):
        learner.reshard()
    own = learner.exported if to_export else learner.own_state
    return {name: whole(weight).cpu().contiguous() for name, weight in own.items()}


def other_models(learner: Any) -> dict[str, tuple[Any, dict[str, Tensor]]]:
    """Return models that are exported with the model, and their whole weights, by their folder.

    All processes take part.
    """
    if isinstance(learner, FSDPModule):
        learner.reshard()
    models: dict[str, Any] = learner.models
    states = {name: model.state_dict().items() for name, model in models.items()}
    return {n: (models[n], {k: whole(w).cpu() for k, w in states[n]}) for n in models}


def whole(tensor: Tensor) -> Tensor:
    """Return the whole tensor; all processes take part."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_part(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def cut_like(like: Tensor, tensor: Tensor) -> Tensor:
    """Return this process's part of a whole tensor if ``like`` is a part, else ``tensor``."""
    if not isinstance(like, DTensor) or isinstance(tensor, DTensor):
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements)


def write_shards(tensors: dict[str, Tensor], folder: Path) -> None:
    """Write the parts of all processes; all of them take part."""
    from torch.distributed.checkpoint.state_dict_saver import save

    save(tensors, checkpoint_id=folder)


def has_shards(folder: Path) -> bool:
    return (folder / ".metadata").exists()


def read_shards(templates: dict[str, Tensor], folder: Path) -> None:
    from torch.distributed.checkpoint.state_dict_loader import load

    load(templates, checkpoint_id=folder, no_dist=not torch.distributed.is_initialized())
