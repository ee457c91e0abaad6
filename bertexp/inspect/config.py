"""The keys of ``python -m bertexp.inspect``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bertexp.config import Config
from bertexp.inspect import TOPICS
from bertexp.validation import require


@dataclass(kw_only=True)
class InspectConfig(Config):
    """An experiment, and the topics to show."""

    command: ClassVar[str] = "bertexp.inspect"
    ignores: ClassVar[tuple[str, ...]] = (
        *("evaluation", "optimizer", "scheduler", "trainer", "name", "sweep", "phases"),
    )

    what: list[str]
    text: str | None
    text_b: str | None
    run: str | None
    layer: int | None
    output: str

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.what) > 0, "what", self.what, f"some of {', '.join(TOPICS.names())}")
        for topic in self.what:
            TOPICS.check(topic)
