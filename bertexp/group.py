"""The processes of one run: which one this is, and the messages between them.

A process belongs to one group, as in ``torch.distributed``; before it joins one it is alone, and
all functions here return at once. Messages go from CPU to CPU (gloo) and wait for no GPU,
except those of ``add_up``.
"""

from __future__ import annotations

import datetime
import json
import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NoReturn, TypeVar

from bertexp.validation import UserError, is_mistake

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup, ReduceOp, Store  # type: ignore[attr-defined]

T = TypeVar("T")
Number = TypeVar("Number", bound=float)

# The others wait for hours while the first prepares data. A process that dies is noticed at once.
PATIENCE = datetime.timedelta(days=7)
_FAILURE = "bertexp/failure"
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
    # The device of a tensor decides the backend.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, store=_store, rank=rank, world_size=size)
    _group = distributed.new_group(backend="gloo", timeout=PATIENCE)


def leave() -> None:
    """Leave the group; processes that wait for this one fail."""
    from torch import distributed

    global _group, _store
    _group = _store = None
    distributed.destroy_process_group()


def rank() -> int:
    """Return this process's number, from 0."""
    return int(os.environ["RANK"]) if _group else 0


def size() -> int:
    """Return how many processes the run has."""
    return int(os.environ["WORLD_SIZE"]) if _group else 1


def is_first() -> bool:
    """Whether this process writes, logs and prints."""
    return rank() == 0


def total(numbers: Sequence[Number]) -> list[Number]:
    """Return the sum of each number over all processes."""
    from torch.distributed import ReduceOp

    return _reduce(numbers, ReduceOp.SUM)


def add_up(tensor: Tensor) -> None:
    """Replace a tensor on any device by its sum over all processes."""
    if _group is not None:
        from torch import distributed

        distributed.all_reduce(tensor)


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
    # Integers stay integers.
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
    """Let the first process of each machine finish a ``with`` block before the others begin it."""
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


@dataclass(frozen=True)
class Failure:
    """An error, as processes send it to each other.

    Attributes:
        message: the error's, after the name of its type if it is a bug.
        is_mistake: whether the user needs no more than the message.
    """

    rank: int
    message: str
    is_mistake: bool
    traceback: str

    @classmethod
    def first(cls, error: Exception) -> Failure:
        """Return the first error of all processes, this one's if no other came before it.

        When one process ends, the others fail because they cannot reach it any more; the error to
        report is the first.
        """
        found = is_mistake(error)
        own = cls(
            rank=rank(),
            message=str(error) if found else f"{type(error).__name__}: {error}",
            is_mistake=found,
            traceback="".join(traceback.format_exception(error)),
        )
        if _store is None:
            return own
        return cls.read(_store.compare_set(_FAILURE, "", own.text()).decode())

    @classmethod
    def known(cls) -> Failure | None:
        """Return the first error of all processes, if there was one."""
        has_failed = _store is not None and _store.check([_FAILURE])
        return cls.read(_store.get(_FAILURE).decode()) if _store and has_failed else None

    @classmethod
    def read(cls, text: str) -> Failure:
        return cls(**json.loads(text))

    def text(self) -> str:
        return json.dumps(asdict(self))

    def raise_here(self) -> NoReturn:
        if self.is_mistake:
            raise UserError(self.message) from None
        remote = _RemoteError(f"\n{self.traceback}")
        raise RuntimeError(f"process {self.rank}: {self.message}") from remote


class _RemoteError(Exception):
    """An error of another process, with its traceback for a message."""
