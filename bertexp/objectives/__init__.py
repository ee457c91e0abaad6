"""Objectives, which a model learns to predict: one class in one file each.

``examples`` and ``formats`` cut text into examples, and ``batch`` holds a batch of them. An
objective (``base``) marks what it predicts there (``positions``); it is a ``head``, whose loss the
``learner`` computes from hidden states. A ``task`` is one objective or several.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bertexp.registry import Registry

if TYPE_CHECKING:
    from bertexp.data.tokens.store import TokenStore
    from bertexp.data.tokens.tokenizer import Tokenizer
    from bertexp.objectives.base import Objective
    from bertexp.objectives.config import TaskConfig
    from bertexp.objectives.examples import Examples

# Writes the examples of a text under a seed.
Format = Callable[["TokenStore", "TaskConfig", "Tokenizer", int], "Examples"]

OBJECTIVES: Registry[type[Objective]] = Registry("task.objectives", "bertexp.objectives")
FORMATS: Registry[Format] = Registry("task.format", "bertexp.objectives", beside=OBJECTIVES)
