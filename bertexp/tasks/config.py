"""What ``task.*`` may say."""

from __future__ import annotations

from dataclasses import dataclass

from bertexp.tasks import TASKS
from bertexp.tokens.sentences import METHODS
from bertexp.validation import require, require_choice


@dataclass(kw_only=True)
class TaskConfig:
    """What a model is trained to predict, and how long its examples may be."""

    name: str
    max_length: int
    sentences: str
    next_prob: float

    def __post_init__(self) -> None:
        TASKS.check(self.name)
        require(self.max_length >= 8, "task.max_length", self.max_length, "at least 8 tokens")
        require_choice("task.sentences", self.sentences, METHODS)
        require(
            0 < self.next_prob < 1,
            "task.next_prob",
            self.next_prob,
            "between 0 and 1, both excluded",
        )
