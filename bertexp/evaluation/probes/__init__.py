"""Probes: linear classifiers on frozen features, on tasks made from the corpus."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bertexp.registry import Registry

if TYPE_CHECKING:
    from bertexp.evaluation.probes.tasks import Labelled, Passages

# Returns all labelled texts that the corpus has, in any order; perhaps none.
Maker = Callable[["Passages"], "Labelled"]

# The features of a text: the mean of its tokens' hidden states, or that of the first.
POOLINGS = ("mean", "cls")

PROBES: Registry[Maker] = Registry("evaluation.probes", "bertexp.evaluation.probes")
