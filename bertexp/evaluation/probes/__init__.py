"""Probes: what a linear classifier reads from frozen features, on tasks made from the corpus."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bertexp.registry import Registry

if TYPE_CHECKING:
    from bertexp.evaluation.probes.tasks import Labelled, Passages

# Makes labelled texts, in any order, as many as there are; none where the corpus has no such.
Maker = Callable[["Passages"], "Labelled"]

# What stands for a text: the mean of its tokens' hidden states, or that of the first.
POOLINGS = ("mean", "cls")

PROBES: Registry[Maker] = Registry("evaluation.probes", "bertexp.evaluation.probes")
