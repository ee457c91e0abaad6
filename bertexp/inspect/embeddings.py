"""Words in the embedding table: what lies near them, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from bertexp.experiment import report
from bertexp.inspect import TOPICS
from bertexp.inspect.subject import Subject
from bertexp.validation import UserError

NEIGHBOURS = 5
# Of these, drawn in the picture.
DRAWN = 3
# Tokens of the text that are looked at, the first ones.
MOST = 12


@dataclass(frozen=True)
class Neighbourhood:
    """Tokens and what lies nearest to each in the embedding table.

    Attributes:
        ids: of the tokens.
        nearest: ids of the nearest others, nearest first, of shape (tokens, neighbours).
        cosines: between each token and these.
    """

    ids: list[int]
    nearest: np.ndarray
    cosines: np.ndarray


@TOPICS.register("embeddings", reads=("text", "text_b"))
def show_embeddings(subject: Subject) -> None:
    """Print the nearest neighbours of the text's tokens, and draw all in two dimensions."""
    from bertexp.inspect.pictures.embeddings import draw_embeddings

    tokenizer = subject.tokenizer
    ids = [index for index in dict.fromkeys(subject.input.ids) if not tokenizer.is_special_V[index]]
    if not ids:
        raise UserError("text: has no word of the vocabulary to look up.")
    model: Any = subject.model
    table_VD = getattr(model, "bert", model).embeddings.word_embeddings.weight.detach().numpy()
    # Without the rows that no token has.
    table_VD = table_VD[: tokenizer.vocab_size]
    found = neighbourhood(table_VD, ids[:MOST], tokenizer.is_special_V)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("token")
    table.add_column("nearest in the embedding table, with cosines", overflow="fold")
    for index, nearest, cosines in zip(found.ids, found.nearest, found.cosines, strict=True):
        line = Text()
        for other, cosine in zip(nearest.tolist(), cosines.tolist(), strict=True):
            line.append(f"{tokenizer.tokens[other]} ").append(f"{cosine:.2f}  ", "dim")
        table.add_row(Text(tokenizer.tokens[index], "bold"), line)
    size = f"{table_VD.shape[0]:,} tokens × {table_VD.shape[1]}"
    report.show(Group(Text(f"word embeddings: {size} · {subject.name}", "bold"), "", table))
    shown = np.unique([*found.ids, *found.nearest[:, :DRAWN].ravel().tolist()])
    points_V2 = project(table_VD, shown)
    draw_embeddings(found, points_V2, tokenizer.tokens, subject.file("embeddings.png"))


def neighbourhood(table_VD: np.ndarray, ids: list[int], is_special_V: np.ndarray) -> Neighbourhood:
    """Return what lies nearest to some tokens, by cosine, special tokens and itself left out."""
    unit_VD = table_VD / np.maximum(np.linalg.norm(table_VD, axis=1, keepdims=True), 1e-12)
    cosines_NV = unit_VD[ids] @ unit_VD.T
    cosines_NV[:, is_special_V] = -np.inf
    cosines_NV[np.arange(len(ids)), ids] = -np.inf
    count = min(NEIGHBOURS, int((~is_special_V).sum()) - 1)
    nearest = np.argsort(-cosines_NV, axis=1, kind="stable")[:, :count]
    return Neighbourhood(ids, nearest, np.take_along_axis(cosines_NV, nearest, axis=1))


def project(table_VD: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return all tokens in the plane of the first two principal components of some of them.

    Args:
        table_VD: the embedding table.
        chosen: the tokens that the plane is to tell apart.

    Returns:
        Shape (vocabulary, 2).
    """
    centred_VD = (table_VD - table_VD[chosen].mean(0)).astype(np.float64)
    _, directions_DD = np.linalg.eigh(centred_VD[chosen].T @ centred_VD[chosen])
    return centred_VD @ directions_DD[:, :-3:-1]
