"""The keys of ``tracker.*``."""

from __future__ import annotations

from dataclasses import dataclass

from bertexp.keys import key
from bertexp.validation import require

TRACKERS = ("wandb", "tensorboard", "trackio", "none")
TAG_LENGTH = 64
"""W&B's limit, in characters."""

_PROJECT_LENGTH = 128
_NOT_IN_PROJECTS = "/\\#?%:"


@dataclass(kw_only=True)
class TrackerConfig:
    """The service that tracks a run, and the run's project, group and tags there.

    ``mode`` is for W&B: ``auto`` is online if there is a key and a network, else offline;
    ``disabled`` switches any tracker off.
    """

    name: str = key(choices=TRACKERS)
    mode: str = key(choices=("auto", "online", "offline", "disabled"))
    project: str = key(read_with=("tracker.name", "wandb", "trackio"))
    entity: str | None = key(read_with=("tracker.name", "wandb"))
    group: str | None = key(read_with=("tracker.name", "wandb", "trackio"))
    tags: list[str] = key(read_with=("tracker.name", "wandb"))

    def __post_init__(self) -> None:
        require(
            0 < len(self.project) <= _PROJECT_LENGTH
            and not set(self.project) & set(_NOT_IN_PROJECTS),
            "tracker.project",
            self.project,
            f"1 to {_PROJECT_LENGTH} characters, none of them of {_NOT_IN_PROJECTS}",
        )
        for tag in self.tags:
            require(
                0 < len(tag) <= TAG_LENGTH,
                "tracker.tags",
                tag,
                f"tags of 1 to {TAG_LENGTH} characters",
            )
