"""The model's modules, and where its parameters, bytes and operations are."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text
from torch import nn

from bertexp.experiment import report
from bertexp.inspect import TOPICS
from bertexp.inspect.subject import Subject

# Of the parts of a BERT, the first so many are those of any BERT: embeddings and encoder.
BARE = 5


@dataclass(frozen=True)
class Part:
    """A part of a model.

    Attributes:
        name: what it is.
        parameters: how many are its own; shared ones count where they come first.
        bytes: what these take up.
        flops: floating-point operations a token of the forward pass: matrix products only, two
            a multiply-add, every position computed. Of the masked tokens' head for each of
            them, of what reads the first position of each sequence.
    """

    name: str
    parameters: int
    bytes: int
    flops: int


@TOPICS.register("architecture")
def show_architecture(subject: Subject) -> None:
    """Print the module tree and the table of parts."""
    model, length = subject.skeleton, subject.config.task.max_length
    title = Text(f"{type(model).__name__} · {subject.name}", "bold")
    note = Text(
        f"FLOPs: of a forward pass at {length} tokens, matrix products only; per token, of the "
        "head per predicted token, of the pooler per sequence.",
        "dim",
    )
    report.show(Group(title, "", _tree(model), "", _table(parts(model, length)), note))


def parts(model: nn.Module, length: int) -> list[Part]:
    """Return a BERT's parts, which make up all of it.

    Args:
        model: a BERT of ``transformers``, with or without heads.
        length: tokens of an input, which attention costs go by.
    """
    config: Any = model.config
    bert: Any = getattr(model, "bert", model)
    hidden, vocabulary = config.hidden_size, config.vocab_size
    layer = 4 * hidden * hidden + 2 * length * hidden + 2 * hidden * config.intermediate_size
    head = hidden * (hidden + vocabulary)
    heads: Any = getattr(model, "cls", None)
    embeddings = bert.embeddings
    found: list[tuple[str, nn.Module | None, int]] = [
        ("word embeddings", embeddings.word_embeddings, 0),
        ("position embeddings", embeddings.position_embeddings, 0),
        ("segment embeddings", embeddings.token_type_embeddings, 0),
        ("embeddings' normalisation", embeddings.LayerNorm, 0),
        ("encoder", bert.encoder, config.num_hidden_layers * layer),
        ("pooler", bert.pooler, hidden * hidden),
        ("masked tokens' head", getattr(heads, "predictions", None), head),
        ("pairs' head", getattr(heads, "seq_relationship", None), 2 * hidden),
    ]
    seen: set[int] = set()
    return [
        Part(name, *_own(module, seen), 2 * products)
        for name, module, products in found
        if module is not None
    ]


def _own(module: nn.Module, seen: set[int]) -> tuple[int, int]:
    """Return the number and the bytes of a module's parameters that were not seen before."""
    own = [parameter for parameter in module.parameters() if id(parameter) not in seen]
    seen.update(map(id, own))
    return sum(p.numel() for p in own), sum(p.numel() * p.element_size() for p in own)


def _table(found: list[Part]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("part", "parameters", "bytes", "share", "FLOPs"):
        table.add_column(name, justify="left" if name == "part" else "right")
    total = sum(part.parameters for part in found)

    def add(name: str, chosen: list[Part], flops: int, style: str = "") -> None:
        count = sum(part.parameters for part in chosen)
        size = f"{sum(part.bytes for part in chosen) / 1e6:,.2f} MB"
        share = f"{count / total:.1%}"
        table.add_row(name, f"{count:,}", size, share, f"{flops:,}" if flops else "", style=style)

    for part in found:
        add(part.name, [part], part.flops)
    add("without pooler and heads", found[:BARE], 0, "bold")
    add("all", found, 0, "bold")
    return table


def _tree(model: nn.Module) -> Table:
    """Return a model's modules with the shapes of their parameters, equal neighbours once."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("module", overflow="fold")
    table.add_column("shapes", justify="right")
    table.add_column("parameters", justify="right", no_wrap=True)
    seen: set[int] = set()

    def add(name: str, module: nn.Module, copies: int, depth: int) -> None:
        kind = type(module).__name__
        times = f"{copies} x " if copies > 1 else ""
        count, _ = _own(module, seen.copy())
        own = [*module.parameters(recurse=False)]
        table.add_row(
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
    return table


def _folded(module: nn.Module) -> list[tuple[list[str], nn.Module]]:
    """Return a module's children, those side by side that are built alike as one."""
    alike = groupby(module.named_children(), key=lambda child: repr(child[1]))
    groups = [list(children) for _, children in alike]
    return [([name for name, _ in group], group[0][1]) for group in groups]


def _joined(names: list[str]) -> str:
    """Return ``0-11`` for the names of layers, ``query, key, value`` for others."""
    if len(names) > 1 and names[0].isdigit():
        return f"{names[0]}-{names[-1]}"
    return ", ".join(names)
