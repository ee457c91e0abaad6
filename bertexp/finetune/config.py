"""The keys of ``finetune.*``, and the whole configuration of a run that fine-tunes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from bertexp.config import RunConfig
from bertexp.keys import key
from bertexp.validation import UserError, require, require_choice


@dataclass(frozen=True)
class GlueTask:
    """The files of one of GLUE's nine tasks (Wang et al. 2018), and their columns.

    They are TSV without rules of quoting (quotation marks are text), in the folders of GLUE's own
    download, https://gluebenchmark.com/tasks.

    Attributes:
        folder: the name of the folder in the download.
        columns: the files' names of columns that differ in the Hub's copy and in
            ``conf/finetune``.
        validation: the file of each validation set; the first one decides.
        test: the file of each test set, by the name of its submission.
        header: the columns of a training or validation file without a header.
    """

    folder: str
    test: Mapping[str, str]
    validation: Mapping[str, str] = field(default_factory=lambda: {"": "dev.tsv"})
    header: tuple[str, ...] | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


def _one(name: str) -> dict[str, str]:
    return {name: "test.tsv"}


GLUE = {
    "cola": GlueTask(
        "CoLA", _one("CoLA"), header=("source", "label", "original_label", "sentence")
    ),
    "sst2": GlueTask("SST-2", _one("SST-2")),
    "mrpc": GlueTask(
        "MRPC",
        _one("MRPC"),
        columns={"sentence1": "#1 String", "sentence2": "#2 String", "label": "Quality"},
    ),
    "qqp": GlueTask("QQP", _one("QQP"), columns={"label": "is_duplicate"}),
    "stsb": GlueTask("STS-B", _one("STS-B"), columns={"label": "score"}),
    "mnli": GlueTask(
        "MNLI",
        {"MNLI-m": "test_matched.tsv", "MNLI-mm": "test_mismatched.tsv"},
        {"": "dev_matched.tsv", "mismatched": "dev_mismatched.tsv"},
        columns={"premise": "sentence1", "hypothesis": "sentence2", "label": "gold_label"},
    ),
    "qnli": GlueTask("QNLI", _one("QNLI")),
    "rte": GlueTask("RTE", _one("RTE")),
    "wnli": GlueTask("WNLI", _one("WNLI")),
}
# The splits of MNLI in the Hub's copy.
HUB_SPLITS = {
    "mnli": (
        {"": "validation_matched", "mismatched": "validation_mismatched"},
        {"MNLI-m": "test_matched", "MNLI-mm": "test_mismatched"},
    )
}
# By the name of the option, the validation files by condition; the first one decides. The BabyLM
# challenge of 2025 has JSON Lines in one folder, ``glue_filtered``: ``<task>.train.jsonl`` and
# ``<task>.valid.jsonl``, on which it collects predictions.
BABYLM = {
    f"babylm_{task}": {"": task} for task in ("boolq", "multirc", "rte", "wsc", "mrpc", "qqp")
} | {"babylm_mnli": {"": "mnli", "mismatched": "mnli-mm"}}


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
