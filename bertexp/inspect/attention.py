"""The attention of each head to a text: figures, heat maps and a page."""

from __future__ import annotations

import base64
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Group, RenderableType
from rich.text import Text
from torch import Tensor

from bertexp.console import number, shortened, show, table
from bertexp.display import Picture, Shown, displayable, page
from bertexp.inspect import TOPICS
from bertexp.inspect.subject import Subject
from bertexp.validation import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The number of heads side by side in a terminal, and of maps in a row of a picture.
COLUMNS, MAP_COLUMNS = 12, 4
# For longer texts pictures name every second or third token, and pages show the beginning.
MOST_NAMED, TITLE = 40, 160
ASSETS = Path(__file__).parent / "assets"
# A page stores weights as whole numbers up to this: their error is below 1e-5.
SCALE = 65535


@dataclass(frozen=True, repr=False)
class Attention(Shown):
    """The attention of a model to one text.

    Attributes:
        weights: of shape (layers, heads, attending tokens, attended tokens), summing to 1 over the
            last.
        is_causal: whether tokens attend only to themselves and earlier ones.
        model: its name.
    """

    tokens: list[str]
    weights: Tensor
    is_causal: bool = False
    model: str = ""

    @property
    def most(self) -> float:
        """The entropy of a head that attends alike to all tokens it can."""
        count = len(self.tokens)
        if not self.is_causal:
            return math.log(count)
        return math.lgamma(count + 1) / count

    @property
    def entropy(self) -> Tensor:
        """In nats, the mean over the tokens that attend, of shape (layers, heads).

        0 for a head that attends to one token only, ``most`` for one that attends to all equally.
        """
        return -torch.special.xlogy(self.weights, self.weights).sum(-1).mean(-1)

    @property
    def distance(self) -> Tensor:
        """The mean distance in tokens of a head's attention, of shape (layers, heads)."""
        place_L = torch.arange(len(self.tokens))
        away_LL = (place_L[:, None] - place_L[None, :]).abs()
        return (self.weights * away_LL).sum(-1).mean(-1)

    def maps(self, layer: int | None) -> dict[str, Tensor]:
        """Return the maps to draw by name, each of shape (tokens, tokens).

        These are the heads of a layer, counted from 1; for None the mean over the heads of every
        layer, as heads with the same number in different layers have nothing in common.
        """
        if layer is None:
            return {f"layer {n}": heads.mean(0) for n, heads in enumerate(self.weights, start=1)}
        return {f"head {n}": head for n, head in enumerate(self.weights[layer - 1], start=1)}

    @property
    def title(self) -> str:
        layers, heads, count, _ = self.weights.shape
        return f"attention: {layers} layers × {heads} heads × {count}² tokens"

    def figures(self, layer: int | None = None) -> RenderableType:
        """Return the entropy and distance of each head, of all layers or one, as tables."""
        note = f"Entropy in nats ({self.most:.2f} for all tokens alike), distance in tokens."
        if self.is_causal:
            note += "\nAttention is causal, as where the model predicts."
        return Group(
            *_tables("entropy", self.entropy, layer, 2),
            *_tables("distance", self.distance, layer, 1),
            Text(note, "dim"),
        )

    def __rich__(self) -> RenderableType:
        return Group(Text(f"{self.title} · {self.model}\n", "bold"), self.figures())

    def plot(self, layer: int | None = None) -> Figure:
        """Return a figure of the heads of a layer, from 1, or None: of each layer's mean head."""
        _require_layer(layer, len(self.weights))
        return displayable(draw_attention(self, layer))

    def pictures(self) -> Iterator[Picture]:
        yield page(render_attention(self))


@TOPICS.register("attention", reads=("text", "text_b", "layer"))
def show_attention(subject: Subject) -> None:
    """Print each head's entropy and distance, draw heads or layers, and write the page."""
    from bertexp.plotting import save

    layer = subject.config.layer
    _require_layer(layer, subject.model.config.num_hidden_layers)
    found = read_attention(subject)
    show(Group(subject.title(found.title), found.figures(layer)))
    save(draw_attention(found, layer), subject.file("attention.png"))
    subject.file("attention.html").write_text(render_attention(found), encoding="utf-8")


def _require_layer(layer: int | None, layers: int) -> None:
    require(layer is None or 1 <= layer <= layers, "layer", layer, f"1 to {layers}, or null")


def read_attention(subject: Subject) -> Attention:
    weights = torch.stack(subject.read("attentions", is_causal=subject.is_causal))[:, 0]
    return Attention(subject.input.tokens, weights.double(), subject.is_causal, subject.name)


def _tables(name: str, values_NH: Tensor, layer: int | None, digits: int) -> list[RenderableType]:
    """Return a row for each layer and a column for each head, in several tables if wide."""
    found: list[RenderableType] = []
    heads = values_NH.shape[1]
    for first in range(0, heads, COLUMNS):
        last = min(first + COLUMNS, heads)
        rows = [
            (f"layer {n}", *(number(value, digits) for value in values_H[first:last]))
            for n, values_H in enumerate(values_NH.tolist(), start=1)
            if layer in (None, n)
        ]
        found += [table(f"{name:8}", *(f"h{head + 1}" for head in range(first, last)), rows=rows)]
        found += [""]
    return found


def draw_attention(found: Attention, layer: int | None) -> Figure:
    """Draw every head of a layer, counted from 1; for None the mean of each layer's heads."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    from bertexp.plotting import HEAT, drawing

    maps, count = found.maps(layer), len(found.tokens)
    columns, most = min(len(maps), MAP_COLUMNS), max(float(one.max()) for one in maps.values())
    rows = math.ceil(len(maps) / columns)
    side = min(max(0.16 * count, 1.8), 6.0)
    with drawing():
        figure = Figure(
            figsize=(columns * (side + 0.5) + 1.6, rows * (side + 0.5) + 1.2),
            layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.1),
        )
        grid = figure.subplots(rows, columns, squeeze=False)
        image: Any = None
        for axes in grid.flat[len(maps) :]:
            axes.set_visible(False)
        for place, (axes, name) in enumerate(zip(grid.flat, maps, strict=False)):
            image = axes.imshow(maps[name], cmap=HEAT, vmin=0, vmax=most)
            axes.set_title(name, fontsize=10, loc="left")
            _name_tokens(axes, found.tokens)
            # Tokens are named only at the lowest map of a column and the first of a row.
            below, left = place + columns >= len(maps), place % columns == 0
            axes.tick_params(length=0, labelbottom=below, labelleft=left)
        where = "mean over the heads of each layer" if layer is None else f"layer {layer}"
        figure.suptitle(f"Attention, {where}", x=0.01, ha="left", fontsize=11)
        figure.supxlabel("attended to", fontsize=9)
        figure.supylabel("attending", fontsize=9)
        bar = figure.colorbar(image, ax=grid, aspect=30)
        bar.set_label("share of attention", fontsize=9)
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
        return figure


def _name_tokens(axes: Any, tokens: Sequence[str]) -> None:
    step = math.ceil(len(tokens) / MOST_NAMED)
    names = [shortened(token) for token in tokens[::step]]
    axes.set_xticks(range(0, len(tokens), step), names, rotation=90, fontsize=8)
    axes.set_yticks(range(0, len(tokens), step), names, fontsize=8)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)


def render_attention(found: Attention) -> str:
    from bertexp.pages import render_page

    layers, heads = found.weights.shape[:2]
    weights = (found.weights.numpy() * SCALE).round().astype("<u2")
    return render_page(
        ASSETS,
        styles=("attention.css",),
        scripts=("attention.js",),
        name=found.model,
        text=textwrap.shorten(" ".join(found.tokens), TITLE, placeholder=" …"),
        layers=layers,
        heads=heads,
        data={
            "tokens": found.tokens,
            "layers": layers,
            "heads": heads,
            "scale": SCALE,
            "most": round(found.most, 4),
            "entropy": found.entropy.round(decimals=4).tolist(),
            "distance": found.distance.round(decimals=4).tolist(),
            "weights": base64.b64encode(weights.tobytes()).decode(),
        },
    )
