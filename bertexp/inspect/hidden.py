"""The hidden states of a text, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text
from torch import Tensor
from torch.nn import functional

from bertexp.experiment import report
from bertexp.inspect import TOPICS
from bertexp.inspect.subject import Subject


@dataclass(frozen=True)
class HiddenState:
    """What a layer gives for one text.

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
    """Print what every layer gives, and draw it."""
    from bertexp.inspect.pictures.hidden import draw_hidden

    found = measure(subject.read("hidden_states"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("layer", "shape", "norm", "cosine", "change"):
        table.add_column(name, justify="left" if name == "layer" else "right")
    for state in found:
        change = "" if state.change is None else f"{state.change:.3f}"
        shape = " × ".join(map(str, state.shape))
        table.add_row(state.name, shape, f"{state.norm:.3f}", f"{state.cosine:.3f}", change)
    note = Text(
        "Means over the tokens: norm of a token's vector, cosine between two tokens', distance "
        "from the layer before over its norm.",
        "dim",
    )
    title = Text(f"{len(found)} hidden states · {subject.name}", "bold")
    report.show(Group(title, "", table, note))
    draw_hidden(found, subject.file("hidden.png"))


def measure(states: tuple[Tensor, ...]) -> list[HiddenState]:
    """Return the figures of the hidden states of one text.

    Args:
        states: of the embeddings and each layer, each of shape (1, tokens, hidden).
    """
    found: list[HiddenState] = []
    before_LD = None
    for number, state_1LD in enumerate(states):
        state_LD = state_1LD[0].double()
        change = None
        if before_LD is not None:
            change = ((state_LD - before_LD).norm(dim=-1) / before_LD.norm(dim=-1)).mean().item()
        name = str(number) if number else "embeddings"
        norm = state_LD.norm(dim=-1).mean().item()
        shape = tuple(state_1LD.shape)
        found.append(HiddenState(name, shape, norm, _mean_cosine(state_LD), change))
        before_LD = state_LD
    return found


def _mean_cosine(state_LD: Tensor) -> float:
    """Return the mean cosine between the vectors of two different tokens."""
    unit_LD = functional.normalize(state_LD, dim=-1)
    cosines_LL = unit_LD @ unit_LD.T
    others = ~torch.eye(len(cosines_LL), dtype=torch.bool)
    return cosines_LL[others].mean().item()
