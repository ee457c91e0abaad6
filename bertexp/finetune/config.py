"""The keys of ``finetune.*``, and the whole configuration of a run that fine-tunes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bertexp.config import RunConfig
from bertexp.finetune.tasks import BABYLM, GLUE
from bertexp.keys import key
from bertexp.validation import UserError, require, require_choice

TEXT = "text"
# The metrics of each kind of labels.
OF_CLASSES = ("accuracy", "f1", "matthews")
OF_SCORES = ("pearson", "spearman")
KINDS = {"classification": OF_CLASSES, "regression": OF_SCORES}


@dataclass(kw_only=True)
class LabelledConfig:
    """The labelled data, their kind of labels, and the metrics."""

    name: str = key(choices=(*GLUE, *BABYLM, TEXT))
    path: str | None
    hub: str | None
    hub_config: str | None = key(read_with=("finetune.hub",))
    train: str | None
    validation: str | None
    test: str | None
    text: str
    text_b: str | None
    label: str
    kind: str = key(choices=KINDS)
    labels: list[str] | None
    metrics: list[str]
    max_length: int | None = key(within="[8, inf)")
    every: int | None = key(within="[1, inf)")
    patience: int | None = key(within="[1, inf)")

    def __post_init__(self) -> None:
        require(bool(self.metrics), "finetune.metrics", self.metrics, "at least one metric")
        for name in self.metrics:
            require_choice(f"finetune.metrics (of a {self.kind})", name, KINDS[self.kind])
        if self.path and self.name == TEXT:
            raise UserError(
                "finetune.path: is for GLUE's own folders; finetune=text takes "
                "finetune.train=FILE and finetune.validation=FILE."
            )
        has_splits = self.name != TEXT or self.hub
        for name in ("train", "validation", "test"):
            if has_splits and getattr(self, name) is not None:
                raise UserError(
                    f"finetune.{name}: is for finetune=text with files of one's own; "
                    "finetune.hub and finetune.path have splits already."
                )


@dataclass(kw_only=True)
class FinetuneConfig(RunConfig):
    """A run that fine-tunes: the model it starts from, and the data."""

    command: ClassVar[str] = "bertexp.finetune"
    experiment_class: ClassVar[str] = "bertexp.finetune.finetuning.Finetuning"

    run: str | None
    finetune: LabelledConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.run is None:
            raise UserError("RUN is missing: python -m bertexp.finetune RUN finetune=... .")
