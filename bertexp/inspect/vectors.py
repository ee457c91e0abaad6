"""A text's vectors: its hidden states layer by layer, and its words in the embedding table."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Group
from rich.text import Text
from torch import Tensor
from torch.nn import functional

from bertexp.console import number, show, table
from bertexp.families.base import Family
from bertexp.inspect import TOPICS
from bertexp.inspect.subject import Subject
from bertexp.validation import UserError

PANELS = {
    "norm": "norm of a token's vector",
    "cosine": "cosine between two tokens",
    "change": "change from the layer before",
}
# The number of tokens to look up, and of each one's neighbours to print and to draw.
MOST, NEIGHBOURS, DRAWN = 12, 5, 3
# Where a token's label may begin, in points above its own.
LABEL_HEIGHTS = (3, -10, 12, -19, 21, -28)


@dataclass(frozen=True)
class HiddenState:
    """The output of a layer for one text.

    Attributes:
        name: ``embeddings``, or the layer's number from 1.
        shape: (batch, tokens, hidden).
        norm: the mean Euclidean norm of a token's vector.
        cosine: the mean cosine between the vectors of two different tokens: 0 where they point
            anywhere, 1 where all point the same way (anisotropy; Ethayarajh 2019, "How
            contextual are contextualized word representations?", section 4.1, within one text).
        change: the mean distance of a token's vector from the layer before's, over the norm of
            that; None for the embeddings.
    """

    name: str
    shape: tuple[int, ...]
    norm: float
    cosine: float
    change: float | None


@TOPICS.register("hidden", reads=("text", "text_b"))
def show_hidden(subject: Subject) -> None:
    """Print and draw figures of every layer's output."""
    found = measure(subject.read("hidden_states"))
    rows = [
        (
            state.name,
            " × ".join(map(str, state.shape)),
            number(state.norm),
            number(state.cosine),
            "" if state.change is None else number(state.change),
        )
        for state in found
    ]
    note = (
        "Means over the tokens: norm of a token's vector, cosine between two tokens', distance "
        "from the layer before over its norm."
    )
    made = table("layer", "shape", "norm", "cosine", "change", rows=rows)
    show(Group(subject.title(f"{len(found)} hidden states"), made, Text(note, "dim")))
    _draw_hidden(found, subject.file("hidden.png"))


def measure(states: Sequence[Tensor]) -> list[HiddenState]:
    """Measure the states of the embeddings and each layer, each of shape (1, tokens, hidden)."""
    found: list[HiddenState] = []
    before_LD = None
    for layer, state_1LD in enumerate(states):
        state_LD = state_1LD[0].double()
        norm_L = state_LD.norm(dim=-1)
        change = None
        if before_LD is not None:
            change = ((state_LD - before_LD).norm(dim=-1) / before_LD.norm(dim=-1)).mean().item()
        unit_LD = functional.normalize(state_LD, dim=-1)
        others = ~torch.eye(len(unit_LD), dtype=torch.bool)
        cosine = (unit_LD @ unit_LD.T)[others].mean().item()
        name, shape = str(layer or "embeddings"), tuple(state_1LD.shape)
        found.append(HiddenState(name, shape, norm_L.mean().item(), cosine, change))
        before_LD = state_LD
    return found


def _draw_hidden(states: Sequence[HiddenState], path: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import MaxNLocator

    from bertexp.plotting import HUES, drawing, save

    with drawing():
        figure = Figure(figsize=(9.6, 3.0), layout=ConstrainedLayoutEngine(w_pad=0.1))
        for axes, (name, title), hue in zip(
            figure.subplots(1, len(PANELS)), PANELS.items(), HUES, strict=False
        ):
            values = [(layer, getattr(state, name)) for layer, state in enumerate(states)]
            known = [(layer, value) for layer, value in values if value is not None]
            axes.plot(*zip(*known, strict=True), "o-", color=hue, lw=2, ms=5, clip_on=False)
            axes.set_title(title, fontsize=10, loc="left")
            axes.set_xlabel("layer")
            axes.set_xlim(0, len(states) - 1)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            measured = [value for _, value in known]
            axes.set_ylim(min(0, *measured), 1.1 * max(measured))
        save(figure, path)


@TOPICS.register("embeddings", reads=("text", "text_b"))
def show_embeddings(subject: Subject) -> None:
    """Print the nearest neighbours of the text's tokens, and draw all in two dimensions."""
    tokenizer = subject.tokenizer
    ids = [index for index in dict.fromkeys(subject.input.ids) if not tokenizer.is_special_V[index]]
    if not ids:
        raise UserError("text: has no word of the vocabulary to look up.")
    ids = ids[:MOST]
    table_VD = Family.of(subject.model).word_embeddings_VD.detach().numpy()
    # Without rows that belong to no token.
    table_VD = table_VD[: tokenizer.vocab_size]
    nearest_NK, cosines_NK = neighbours(table_VD, ids, tokenizer.is_special_V)
    columns = ("token", "nearest in the embedding table, with cosines")
    made = table(*columns, left=columns)
    for index, nearest, cosines in zip(ids, nearest_NK.tolist(), cosines_NK.tolist(), strict=True):
        line = Text()
        for other, cosine in zip(nearest, cosines, strict=True):
            line.append(f"{tokenizer.shown[other]} ").append(f"{number(cosine, 2)}  ", "dim")
        made.add_row(Text(tokenizer.shown[index], "bold"), line)
    title = f"word embeddings: {table_VD.shape[0]:,} tokens × {table_VD.shape[1]}"
    show(Group(subject.title(title), made))
    drawn_ND = nearest_NK[:, :DRAWN]
    points_V2 = project(table_VD, np.unique([*ids, *drawn_ND.ravel().tolist()]))
    path = subject.file("embeddings.png")
    _draw_embeddings(ids, drawn_ND, points_V2, tokenizer.shown, path)


def neighbours(
    table_VD: np.ndarray, ids: list[int], is_special_V: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids nearest to some tokens by cosine, and these cosines, both nearest first.

    Special tokens and each token itself are left out; both have shape (tokens, neighbours).
    """
    unit_VD = table_VD / np.maximum(np.linalg.norm(table_VD, axis=1, keepdims=True), 1e-12)
    cosines_NV = unit_VD[ids] @ unit_VD.T
    cosines_NV[:, is_special_V] = -np.inf
    cosines_NV[np.arange(len(ids)), ids] = -np.inf
    count = min(NEIGHBOURS, int((~is_special_V).sum()) - 1)
    nearest_NK = np.argsort(-cosines_NV, axis=1, kind="stable")[:, :count]
    return nearest_NK, np.take_along_axis(cosines_NV, nearest_NK, axis=1)


def project(table_VD: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return all tokens, projected onto the first two principal components of chosen ones."""
    centred_VD = (table_VD - table_VD[chosen].mean(0)).astype(np.float64)
    _, directions_DD = np.linalg.eigh(centred_VD[chosen].T @ centred_VD[chosen])
    return centred_VD @ directions_DD[:, :-3:-1]


def _draw_embeddings(
    ids: list[int], nearest_NK: np.ndarray, points_V2: np.ndarray, tokens: Sequence[str], path: Path
) -> None:
    from matplotlib.figure import Figure

    from bertexp.plotting import FAINT, HUES, INK, OTHERS, drawing, save

    with drawing():
        figure = Figure(figsize=(8.0, 6.0), layout="constrained")
        axes: Any = figure.add_subplot()
        axes.scatter(*points_V2.T, s=4, color=OTHERS, alpha=0.35, lw=0, rasterized=True)
        # The looked-up tokens are labelled first, beside their points.
        looks: dict[int, dict[str, str]] = {i: {"color": INK, "weight": "bold"} for i in ids}
        for place, (index, nearest) in enumerate(zip(ids, nearest_NK.tolist(), strict=True)):
            hue = HUES[place % len(HUES)]
            for other in nearest:
                axes.plot(*points_V2[[index, other]].T, color=hue, lw=0.8, alpha=0.5)
                axes.scatter(*points_V2[other], s=16, color=hue, lw=0)
                looks.setdefault(other, {"color": FAINT})
            axes.scatter(*points_V2[index], s=44, color=hue, lw=0, zorder=3)
        seen_S2 = points_V2[[*looks]]
        margin_2 = 0.12 * np.ptp(seen_S2, axis=0) + 1e-9
        axes.set_xlim(*(seen_S2[:, 0].min() - margin_2[0], seen_S2[:, 0].max() + margin_2[0]))
        axes.set_ylim(*(seen_S2[:, 1].min() - margin_2[1], seen_S2[:, 1].max() + margin_2[1]))
        axes.set_xlabel("first principal component")
        axes.set_ylabel("second principal component")
        figure.draw_without_rendering()  # places the axes
        label_points(axes, seen_S2, [tokens[index] for index in looks], [*looks.values()])
        save(figure, path)


def label_points(
    axes: Any, points_N2: np.ndarray, texts: Sequence[str], looks: Sequence[dict[str, str]]
) -> None:
    """Label points one after another, each where nothing is yet if there is such a place."""
    from matplotlib.transforms import Bbox

    taken = [Bbox([at - 3, at + 3]) for at in axes.transData.transform(points_N2)]
    for point, text, look in zip(points_N2, texts, looks, strict=True):
        label = axes.annotate(text, point, (0, 0), textcoords="offset points", fontsize=8, **look)
        for y, (x, side) in itertools.product(LABEL_HEIGHTS, ((5, "left"), (-5, "right"))):
            label.set(position=(x, y), horizontalalignment=side)
            if not label.get_window_extent().count_overlaps(taken):
                break
        taken.append(label.get_window_extent())
