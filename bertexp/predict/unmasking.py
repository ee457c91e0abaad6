"""Masks filled over several steps, in which each token sees those before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bertexp import draws
from bertexp.objectives.generator import draw

Logits = Callable[[list[int], list[int]], Tensor]


@dataclass(frozen=True)
class Unmasking:
    """How masks are filled.

    Attributes:
        steps: their number, at most one for each mask; None: one for each mask.
        seed: of the draws of tokens; None: the likeliest is taken.
        temperature: of these draws, that of the softmax; 1: the model's own distribution.
        in_order: from left to right, each token from those before it.
    """

    steps: int | None = None
    seed: int | None = None
    temperature: float = 1.0
    in_order: bool = False


@dataclass(frozen=True)
class Filled:
    """The token put at a place, and its probability at that step."""

    place: int
    token: int
    probability: float


def unmask(
    logits_of: Logits, ids: list[int], places: list[int], allowed_V: np.ndarray, how: Unmasking
) -> list[Filled]:
    """Fill the masks at ``places``, the most confident ones first; in the order of filling.

    At each step a token is chosen for every mask that is left; the likeliest of these tokens stay,
    and the other places are masked again (Nie et al. 2025, "Large language diffusion models",
    section 2.4 and algorithm 5). The places are spread over the steps as evenly as whole numbers
    allow, the larger numbers first. With ``in_order`` those furthest to the left stay. What differs
    from the paper: there are no blocks from left to right, and special tokens, which are never
    predicted in training, are not chosen.

    Args:
        logits_of: returns the logits, shape (places, vocabulary), at places of a text's ids.
        allowed_V: whether a token may be chosen.
    """
    ids, left, found = [*ids], [*places], []
    allowed = torch.from_numpy(allowed_V)
    steps = min(how.steps or len(places), len(places))
    for step in range(steps):
        logits_PV = logits_of(ids, left)[:, : len(allowed)].double().cpu()
        logits_PV = logits_PV.masked_fill(~allowed, -torch.inf)
        tokens_P = _chosen(logits_PV, left, step, how)
        chances_P = logits_PV.softmax(-1).gather(1, tokens_P[:, None])[:, 0]
        count = -(-len(left) // (steps - step))
        best_P = chances_P.argsort(descending=True, stable=True)
        if how.in_order:
            best_P = torch.arange(len(left))
        for index in best_P[:count].tolist():
            found.append(Filled(left[index], int(tokens_P[index]), float(chances_P[index])))
            ids[left[index]] = int(tokens_P[index])
        filled = {each.place for each in found}
        left = [place for place in left if place not in filled]
    return found


def _chosen(logits_PV: Tensor, places: list[int], step: int, how: Unmasking) -> Tensor:
    if how.seed is None:
        return logits_PV.argmax(-1)
    state_P = draws.states("unmask", how.seed, step, np.array(places))
    return draw(logits_PV / how.temperature, torch.from_numpy(draws.uniform(state_P)))
