"""What the batches of steps have in common, to be recorded or compiled together."""

from __future__ import annotations

from collections.abc import Hashable

from torch import Tensor

from bertexp.objectives.batch import Batch


def tensors_of(batches: list[Batch]) -> list[Tensor]:
    """Return all tensors of some batches, in an order of their own."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    for batch in batches:
        batch.mapped(keep)
    return found


def shape_of(batches: list[Batch]) -> Hashable:
    """Return what batches must have in common to be computed by one graph."""
    used = [(n, t.used.start, t.used.stop) if t.used else (n,)
            for batch in batches for n, t in batch.targets.items()]  # fmt: skip
    absent = [[name for name, value in vars(batch).items() if value is None] for batch in batches]
    shapes = tuple((tensor.shape, tensor.dtype) for tensor in tensors_of(batches))
    return shapes, tuple(used), str(absent)
