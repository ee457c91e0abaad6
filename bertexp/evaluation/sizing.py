"""The texts that are scored token by token: as many as are in proportion to the training.

Each token takes a forward pass of its text, so that 100 texts cost more than a short training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from bertexp.evaluation.config import AUTO

# Few different numbers, so that most runs of a sweep over budgets are scored on the same texts.
NUMBERS = (100, 50, 25, 10)
# The most that the texts of one metric cost, as a share of the training.
SHARE = 0.02
# A forward and a backward pass cost about three forward passes.
PASSES = 3
CHARACTERS_OF_A_TOKEN = 4

T = TypeVar("T")


def choose_in_proportion(
    wanted: int | str | None,
    choose: Callable[[int], list[T]],
    length: Callable[[T], float],
    trained: float | None,
) -> list[T]:
    """Return ``wanted`` texts, or for ``auto`` as many as the training is long enough for.

    Args:
        choose: returns a number of texts; fewer are the first of more.
        length: returns the tokens of a text.
        trained: the tokens of the training; None if that is unknown.
    """
    if wanted != AUTO:
        return choose(int(wanted or 0))
    texts = choose(NUMBERS[0])
    costs_T = np.cumsum([length(text) ** 2 for text in texts])
    budget = np.inf if trained is None else SHARE * PASSES * trained
    affordable = int(np.searchsorted(costs_T, budget, side="right"))
    if affordable == len(texts):
        return texts
    return texts[: next((each for each in NUMBERS if each <= affordable), NUMBERS[-1])]
