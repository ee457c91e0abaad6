"""The texts that are scored token by token: as many as are in proportion to the training.

Each token takes a forward pass of its text, so that 100 texts cost more than a short training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from bertexp.evaluation.config import AUTO
from bertexp.evaluation.evaluator import Source
from bertexp.families.base import MASKED

# Few different numbers, so that most runs of a sweep over budgets are scored on the same texts.
NUMBERS = (100, 50, 25, 10)
# A forward and a backward pass cost about three forward passes.
PASSES = 3
CHARACTERS_OF_A_TOKEN = 4

T = TypeVar("T")


def choose_in_proportion(
    source: Source,
    share: float,
    choose: Callable[[int], list[T]],
    length: Callable[[T], float],
) -> list[T]:
    """Return as many texts as are configured, or for ``auto`` as the training is long enough for.

    Models without a head for masked tokens get none.

    Args:
        share: the most that the texts cost, of the training.
        choose: returns a number of texts; fewer are the first of more.
        length: returns the tokens of a text.
    """
    wanted = source.config.pseudo_perplexity if MASKED in source.task.heads else None
    if wanted != AUTO:
        return choose(int(wanted or 0))
    texts = choose(NUMBERS[0])
    costs_T = np.cumsum([length(text) ** 2 for text in texts])
    budget = np.inf if source.trained is None else share * PASSES * source.trained
    affordable = int(np.searchsorted(costs_T, budget, side="right"))
    if affordable == len(texts):
        return texts
    return texts[: next((each for each in NUMBERS if each <= affordable), NUMBERS[-1])]
