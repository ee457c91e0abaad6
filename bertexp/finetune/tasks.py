"""The files of GLUE's nine tasks (Wang et al. 2018), and of those that BabyLM kept.

GLUE's TSV files have no rules of quoting: quotation marks are text. The folders are those of its
own download, https://gluebenchmark.com/tasks. The BabyLM challenge of 2025 has JSON Lines in one
folder, ``glue_filtered``: ``<task>.train.jsonl`` and ``<task>.valid.jsonl``. It collects
predictions on the latter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class GlueTask:
    """The files of a task, and their columns.

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
# By the name of the option, the validation files by condition; the first one decides.
BABYLM = {
    f"babylm_{task}": {"": task} for task in ("boolq", "multirc", "rte", "wsc", "mrpc", "qqp")
} | {"babylm_mnli": {"": "mnli", "mismatched": "mnli-mm"}}


def in_its_form(task: str, labels: list[str]) -> str:
    """Return predictions as the challenge's pipeline collects them."""
    rows = [{"id": f"{task}_{n}", "pred": int(label)} for n, label in enumerate(labels)]
    return json.dumps({task: {"predictions": rows}})
