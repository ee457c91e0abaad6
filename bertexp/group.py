"""The processes of one run: which of them this is, and what they tell each other.

A process is of one group, as in ``torch.distributed``; until it joins one it is alone, and all of
this does nothing. What is said here goes from CPU to CPU (gloo): it waits for no GPU.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store
    from torch.distributed import ProcessGroup, ReduceOp

T = TypeVar("T")
Number = TypeVar("Number", bound=float)

# Others wait while the first one prepares data: hours. A process that dies is noticed at once.
PATIENCE = datetime.timedelta(days=7)
_SAID = "bertexp/said"
_group: ProcessGroup | None = None
_store: Store | None = None


def was_launched() -> bool:
    """Whether another program (``torchrun``) has started this process as one of a group."""
    return "TORCHELASTIC_RUN_ID" in os.environ and "RANK" in os.environ


def join() -> None:
    """Join the processes that the environment names (``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR``)."""
    import torch
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    global _group, _store
    _store, rank, size = next(rendezvous("env://"))
    # A tensor goes by the backend of its device.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, store=_store, rank=rank, world_size=size)
    _group = distributed.new_group(backend="gloo", timeout=PATIENCE)


def leave() -> None:
    """Leave the group; whoever waits for this process fails."""
    from torch import distributed

    global _group, _store
    _group = _store = None
    distributed.destroy_process_group()


def first_to_say(what: str) -> str:
    """Return what the first process to call this said, also to those that say something later."""
    return what if _store is None else _store.compare_set(_SAID, "", what).decode()


def said() -> str | None:
    """Return what ``first_to_say`` would return, if a process has called it."""
    return _store.get(_SAID).decode() if _store and _store.check([_SAID]) else None


def rank() -> int:
    """Return this process's number, from 0."""
    return int(os.environ["RANK"]) if _group else 0


def size() -> int:
    """Return how many processes the run has."""
    return int(os.environ["WORLD_SIZE"]) if _group else 1


def is_first() -> bool:
    """Whether this is the process that writes, logs and shows."""
    return rank() == 0


def total(numbers: Sequence[Number]) -> list[Number]:
    """Return the sums of each number over all processes."""
    from torch.distributed import ReduceOp

    return _reduce(numbers, ReduceOp.SUM)


def largest(numbers: Sequence[Number]) -> list[Number]:
    """Return the largest of each number over all processes."""
    from torch.distributed import ReduceOp

    return _reduce(numbers, ReduceOp.MAX)


def _reduce(numbers: Sequence[Number], operation: ReduceOp.RedOpType) -> list[Number]:
    if _group is None:
        return list(numbers)
    import torch
    from torch import distributed

    values = torch.tensor(numbers, dtype=torch.float64)
    distributed.all_reduce(values, operation, group=_group)
    # Whole numbers stay whole.
    return [type(own)(value) for own, value in zip(numbers, values.tolist(), strict=True)]


def from_first(value: T) -> T:
    """Return the first process's value in all of them."""
    if _group is None:
        return value
    from torch import distributed

    box = [value]
    distributed.broadcast_object_list(box, src=0, group=_group)
    return box[0]


def gathered(value: T) -> list[T]:
    """Return the values of all processes, the first one's first, in all of them."""
    if _group is None:
        return [value]
    from torch import distributed

    found: list[T | None] = [None] * size()
    distributed.all_gather_object(found, value, group=_group)
    return found  # type: ignore[return-value]  # all are filled


@contextmanager
def first_before_others() -> Iterator[None]:
    """Let the first process of each machine do a ``with`` block before the others of it begin."""
    is_others = _group is not None and int(os.environ["LOCAL_RANK"]) > 0
    if is_others:
        _wait()
    yield
    if not is_others:
        _wait()


def _wait() -> None:
    if _group is not None:
        from torch import distributed

        distributed.barrier(group=_group)
