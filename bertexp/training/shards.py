"""Weights and optimizer states in parts, one for each process: whole again, on disk, and back.

Only for a run with ``hardware.sharded``; the tensors of others are whole, and stay as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


def gathered_weights(objective: Any) -> dict[str, Tensor] | None:
    """Return an objective's weights whole, on the CPU, None where they already are.

    All processes take part.
    """
    if not isinstance(objective, FSDPModule):
        return None
    objective.reshard()
    model: Any = objective.model  # type: ignore[attr-defined]
    return {name: whole(weight).cpu() for name, weight in model.state_dict().items()}


def own_weights(learner: Any, to_export: bool = False) -> dict[str, Tensor]:
    """Return the weights trained beside the model, whole; all processes take part."""
    if isinstance(learner, FSDPModule):
        learner.reshard()
    own = learner.exported if to_export else learner.own_state
    return {name: whole(weight).cpu().contiguous() for name, weight in own.items()}


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor; all processes take part."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_part(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def cut_like(like: Tensor, tensor: Tensor) -> Tensor:
    """Return a whole tensor, the same in all processes, in parts if ``like`` is."""
    if not isinstance(like, DTensor) or isinstance(tensor, DTensor):
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements)


def write_shards(tensors: dict[str, Tensor], folder: Path) -> None:
    """Write each process's parts; all processes take part."""
    from torch.distributed.checkpoint.state_dict_saver import save

    save(tensors, checkpoint_id=folder)


def has_shards(folder: Path) -> bool:
    return (folder / ".metadata").exists()


def read_shards(templates: dict[str, Tensor], folder: Path) -> None:
    from torch.distributed.checkpoint.state_dict_loader import load

    load(templates, checkpoint_id=folder, no_dist=not torch.distributed.is_initialized())
