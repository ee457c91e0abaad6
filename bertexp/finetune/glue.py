"""GLUE's nine tasks as its own TSV files have them (Wang et al. 2018).

The files follow no rule of quoting: a quotation mark is a quotation mark. The folders are those
of GLUE's own download, https://gluebenchmark.com/tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class GlueTask:
    """Where a task's files are and what their columns are called.

    Attributes:
        folder: of the files, as the download names it.
        columns: what the files call the columns that the Hub's copy, and so ``conf/finetune``,
            call otherwise.
        validation: the file of each validation set; the first one is what counts.
        test: the file of each test set, by the name of what is submitted for it.
        header: the columns of a training or validation file without a first line that names them.
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
# What the Hub's copies call the splits of MNLI.
HUB_SPLITS = {
    "mnli": (
        {"": "validation_matched", "mismatched": "validation_mismatched"},
        {"MNLI-m": "test_matched", "MNLI-mm": "test_mismatched"},
    )
}
