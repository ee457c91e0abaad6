"""The model's modules, and the parameters, bytes and operations of each part."""

from __future__ import annotations

from itertools import groupby

from rich.console import Group
from rich.table import Table
from rich.text import Text
from torch import nn

from bertexp.console import show, table
from bertexp.families.base import Family
from bertexp.families.costs import Part
from bertexp.inspect import TOPICS
from bertexp.inspect.subject import Subject


@TOPICS.register("architecture")
def show_architecture(subject: Subject) -> None:
    """Print the module tree and the table of parts."""
    model, length = subject.skeleton, subject.config.task.max_length
    note = Text(
        f"FLOPs: of a forward pass at {length} tokens, matrix products only; per token, of the "
        "head per predicted token, of the pooler per sequence.",
        "dim",
    )
    title = subject.title(type(model).__name__)
    show(Group(title, _tree(model), "", _table(model, Family.of(model).parts(length)), note))


def _own(module: nn.Module, seen: set[int]) -> tuple[int, int]:
    """Return the number and the bytes of a module's parameters not in ``seen``."""
    own = [parameter for parameter in module.parameters() if id(parameter) not in seen]
    seen.update(map(id, own))
    return sum(p.numel() for p in own), sum(p.numel() * p.element_size() for p in own)


def _table(model: nn.Module, parts: list[Part]) -> Table:
    made = table("part", "parameters", "bytes", "share", "FLOPs")
    seen: set[int] = set()
    own = [_own(part.module, seen) for part in parts]
    other = _own(model, seen)
    total = sum(count for count, _ in [*own, other])

    def add(name: str, chosen: list[tuple[int, int]], products: int, style: str = "") -> None:
        count, size = (sum(each) for each in zip(*chosen, strict=True))
        flops = f"{2 * products:,}" if products else ""
        cells = (f"{count:,}", f"{size / 1e6:,.2f} MB", f"{count / total:.1%}", flops)
        made.add_row(name, *cells, style=style)

    for part, figures in zip(parts, own, strict=True):
        add(part.name, [figures], part.products)
    if other[0]:
        add("other heads", [other], 0)
    bare = [figures for part, figures in zip(parts, own, strict=True) if not part.is_head]
    add("without pooler and heads", bare, 0, "bold")
    add("all", [*own, other], 0, "bold")
    return made


def _tree(model: nn.Module) -> Table:
    made = table("module", "shapes", "parameters")
    seen: set[int] = set()

    def add(name: str, module: nn.Module, copies: int, depth: int) -> None:
        kind = type(module).__name__
        times = f"{copies} x " if copies > 1 else ""
        count, _ = _own(module, seen.copy())
        own = [*module.parameters(recurse=False)]
        made.add_row(
            Text("  " * depth + f"{name}: {times}{kind}"),
            " + ".join("×".join(map(str, p.shape)) for p in own if id(p) not in seen)
            or ("tied" if own else ""),
            f"{times}{count:,}" if count else "",
        )
        seen.update(map(id, own))
        for names, child in _folded(module):
            add(_joined(names), child, len(names), depth + 1)

    for names, part in _folded(model):
        add(_joined(names), part, len(names), 0)
    return made


def _folded(module: nn.Module) -> list[tuple[list[str], nn.Module]]:
    """Return a module's children, with neighbours of the same structure as one."""
    alike = groupby(module.named_children(), key=lambda child: repr(child[1]))
    groups = [list(children) for _, children in alike]
    return [([name for name, _ in group], group[0][1]) for group in groups]


def _joined(names: list[str]) -> str:
    """Return ``0-11`` for the names of layers, ``query, key, value`` for others."""
    if len(names) > 1 and names[0].isdigit():
        return f"{names[0]}-{names[-1]}"
    return ", ".join(names)
