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
        text, text_b, label: columns; what is asked about, and the right answer.
        validation: the file of each validation set; the first one is what counts.
        test: the file of each test set, by the name of what is submitted for it.
        header: the columns of a training or validation file without a first line that names them.
    """

    folder: str
    text: str
    text_b: str | None
    label: str
    test: Mapping[str, str]
    validation: Mapping[str, str] = field(default_factory=lambda: {"": "dev.tsv"})
    header: tuple[str, ...] | None = None


def _one(name: str) -> dict[str, str]:
    return {name: "test.tsv"}


GLUE = {
    "cola": GlueTask(
        "CoLA",
        "sentence",
        None,
        "label",
        _one("CoLA"),
        header=("source", "label", "original_label", "sentence"),
    ),
    "sst2": GlueTask("SST-2", "sentence", None, "label", _one("SST-2")),
    "mrpc": GlueTask("MRPC", "#1 String", "#2 String", "Quality", _one("MRPC")),
    "qqp": GlueTask("QQP", "question1", "question2", "is_duplicate", _one("QQP")),
    "stsb": GlueTask("STS-B", "sentence1", "sentence2", "score", _one("STS-B")),
    "mnli": GlueTask(
        "MNLI",
        "sentence1",
        "sentence2",
        "gold_label",
        {"MNLI-m": "test_matched.tsv", "MNLI-mm": "test_mismatched.tsv"},
        {"": "dev_matched.tsv", "mismatched": "dev_mismatched.tsv"},
    ),
    "qnli": GlueTask("QNLI", "question", "sentence", "label", _one("QNLI")),
    "rte": GlueTask("RTE", "sentence1", "sentence2", "label", _one("RTE")),
    "wnli": GlueTask("WNLI", "sentence1", "sentence2", "label", _one("WNLI")),
}
# What the Hub's copies call the splits of MNLI.
HUB_SPLITS = {
    "mnli": (
        {"": "validation_matched", "mismatched": "validation_mismatched"},
        {"MNLI-m": "test_matched", "MNLI-mm": "test_mismatched"},
    )
}
