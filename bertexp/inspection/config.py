"""What ``python -m bertexp.inspect`` may be asked."""

from __future__ import annotations

from dataclasses import dataclass

from bertexp.config import Config
from bertexp.inspection import TOPICS


@dataclass(kw_only=True)
class InspectConfig(Config):
    """An experiment, and what of it to look at."""

    what: str

    def __post_init__(self) -> None:
        super().__post_init__()
        TOPICS.check(self.what)
