"""What each head of a model attends to in a text."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch import Tensor

from bertexp.experiment import report
from bertexp.inspect import TOPICS
from bertexp.inspect.subject import Subject
from bertexp.validation import require

# Heads side by side that fit into a terminal.
COLUMNS = 12


@dataclass(frozen=True)
class Attention:
    """The attention of a model to one text.

    Attributes:
        tokens: of the text.
        weights: of shape (layers, heads, tokens that attend, tokens that are attended to); the
            last add up to 1.
    """

    tokens: list[str]
    weights: Tensor

    @property
    def entropy(self) -> Tensor:
        """In nats, the mean over the tokens that attend, of shape (layers, heads).

        0 for a head that looks at one token only, the logarithm of the number of tokens for
        one that looks at all alike.
        """
        return -torch.special.xlogy(self.weights, self.weights).sum(-1).mean(-1)

    @property
    def distance(self) -> Tensor:
        """How many tokens away a head looks on average, of shape (layers, heads)."""
        place_L = torch.arange(len(self.tokens))
        away_LL = (place_L[:, None] - place_L[None, :]).abs()
        return (self.weights * away_LL).sum(-1).mean(-1)

    def drawn(self, layer: int | None) -> dict[str, Tensor]:
        """Return what to draw, each (tokens, tokens), by name.

        The heads of a layer, counted from 1; for None all layers, each the mean over its heads.
        Heads of different layers that have the same number have nothing else in common.
        """
        if layer is None:
            return {f"layer {n}": heads.mean(0) for n, heads in enumerate(self.weights, start=1)}
        return {f"head {n}": head for n, head in enumerate(self.weights[layer - 1], start=1)}


@TOPICS.register("attention", reads=("text", "text_b", "layer"))
def show_attention(subject: Subject) -> None:
    """Print each head's entropy and distance, draw heads or layers, and write the page."""
    from bertexp.inspect.page import write_page
    from bertexp.inspect.pictures.attention import draw_attention

    layer, layers = subject.config.layer, subject.model.config.num_hidden_layers
    require(layer is None or 1 <= layer <= layers, "layer", layer, f"1 to {layers}, or null")
    weights = torch.stack(subject.read("attentions"))[:, 0]
    found = Attention(subject.input.tokens, weights.double())
    shape = f"{layers} layers × {weights.shape[1]} heads × {len(found.tokens)}² tokens"
    title = Text(f"attention: {shape} · {subject.name}", "bold")
    uniform = torch.tensor(float(len(found.tokens))).log()
    report.show(
        Group(
            title,
            "",
            *_tables("entropy", found.entropy, layer, 2),
            *_tables("distance", found.distance, layer, 1),
            Text(
                f"Entropy in nats ({uniform:.2f} for all tokens alike), distance in tokens.", "dim"
            ),
        )
    )
    draw_attention(found, layer, subject.file("attention.png"))
    write_page(found, subject.name, subject.file("attention.html"))


def _tables(name: str, values_NH: Tensor, layer: int | None, digits: int) -> list[RenderableType]:
    """Return a row a layer and a column a head; the heads of a wide model in several tables."""
    shown: list[RenderableType] = []
    heads = values_NH.shape[1]
    for first in range(0, heads, COLUMNS):
        last = min(first + COLUMNS, heads)
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column(name, width=8)
        for head in range(first, last):
            table.add_column(f"h{head + 1}", justify="right")
        for number, values_H in enumerate(values_NH.tolist(), start=1):
            if layer in (None, number):
                cells = (f"{value:.{digits}f}" for value in values_H[first:last])
                table.add_row(f"layer {number}", *cells)
        shown += [table, ""]
    return shown
