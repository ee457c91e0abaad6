"""Functions of a training step that torch compiles on a GPU, each for a few shapes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import update_wrapper
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

# The most programs that torch compiles of one function; for one more it would raise an error.
PROGRAMS = 8


class Compilable:
    """A function that ``compiling`` compiles, one program for each combination of shapes.

    Results equal those of the function itself up to rounding, but on a GPU dropout draws different
    masks. Modules among its arguments share a program if their weights have the same shapes, so all
    layers of a model do. Shapes after the first ``PROGRAMS`` are computed without compiling.
    """

    all: ClassVar[list[Compilable]] = []
    is_on: ClassVar[bool] = False

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._compiled: Callable[..., Any] | None = None
        self._kinds: set[Hashable] = set()
        update_wrapper(self, function)
        self.all.append(self)

    def __call__(self, *arguments: Any) -> Any:
        return (self._program(arguments) if self.is_on else self._function)(*arguments)

    def forget(self) -> None:
        self._compiled = None
        self._kinds.clear()

    def _program(self, arguments: tuple[Any, ...]) -> Callable[..., Any]:
        kind = _kind(arguments)
        if kind not in self._kinds and len(self._kinds) == PROGRAMS:
            return self._function
        self._kinds.add(kind)
        if self._compiled is None:
            self._compiled = torch.compile(self._function, dynamic=False, fullgraph=True)
        return self._compiled


def _kind(argument: Any) -> Hashable:
    """Return what a program is made for: torch makes another one where it differs."""
    if isinstance(argument, tuple):
        return tuple(map(_kind, argument))
    if isinstance(argument, Tensor):
        return argument.shape, argument.dtype
    if isinstance(argument, nn.Module):
        # The layers of a model have the same shapes; its generator's (task=rtd) have others.
        return next(argument.parameters()).shape
    return argument if isinstance(argument, int | float) else argument is None


@contextmanager
def compiling(is_on: bool = True) -> Iterator[None]:
    """Run every ``Compilable`` compiled within, if ``is_on``."""
    before, Compilable.is_on = Compilable.is_on, is_on
    try:
        yield
    finally:
        Compilable.is_on = before


def forget_programs() -> None:
    """Drop all programs: those of earlier jobs in this process would count towards the limit."""
    torch.compiler.reset()
    for each in Compilable.all:
        each.forget()
