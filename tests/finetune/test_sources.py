"""Labelled data as they were written: GLUE's files, files of one's own, and mistakes in them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertexp.finetune.config import GLUE, LabelledConfig
from bertexp.finetune.evaluation import in_babylm_form
from bertexp.finetune.labelled import number_labels
from bertexp.finetune.sources import read_splits
from bertexp.validation import UserError

Configure = Callable[..., LabelledConfig]


@pytest.mark.parametrize("task", GLUE)
def test_every_task_of_glue_is_read_from_its_files(
    task: str, glue: Path, labelled_config: Configure
) -> None:
    config = labelled_config(f"finetune={task}", f"finetune.path={glue}")
    splits = read_splits(config)
    nearer = labelled_config(f"finetune={task}", f"finetune.path={glue / GLUE[task].folder}")
    assert read_splits(nearer) == splits
    assert len(splits.train.texts) == len(splits.train.labels) == 2
    assert len(splits.train.texts_b) == (2 if config.text_b else 0)
    assert splits.test.keys() == GLUE[task].test.keys()
    assert all(split.texts and not split.labels for split in splits.test.values())
    if config.kind == "classification":
        assert number_labels(splits, config.labels) == config.labels


def test_quotes_are_like_any_other_sign(glue: Path, labelled_config: Configure) -> None:
    def read(task: str) -> Any:
        return read_splits(labelled_config(f"finetune={task}", f"finetune.path={glue}"))

    cola = read("cola")
    assert cola.train.texts == ['She said "go.', '"Went they home.']
    assert cola.train.labels == ["1", "0"]
    assert cola.test["CoLA"].texts == ["Bill left.", 'Left "Bill.']
    mrpc = read("mrpc")
    assert mrpc.train.texts[0] == 'He said , " yes " .'
    assert mrpc.train.texts_b == ['" Yes , " he said .', "C"]
    assert read("qnli").train.texts_b[0] == 'He " did.'
    assert read("stsb").train.labels == [5.0, 0.5]
    # One of the lines of QQP was cut in two.
    assert read("qqp").train.texts == ["What is it?", "Who?"]
    mnli = read("mnli")
    assert [len(split.texts) for split in mnli.validation.values()] == [1, 2]
    # Of the annotators' labels and the one they agreed on, the latter.
    assert mnli.train.labels == ["entailment", "contradiction"]


TEXTS = ['He said "no", then left.', "Two\nlines, one field.", "Tab or comma?"]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*rows[0]])
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".tsv":
        lines = ["\t".join(rows[0]), *("\t".join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize(
    ("ending", "labels", "words"),
    [
        *((end, ("no", "yes"), ["no", "yes"]) for end in ("csv", "tsv", "jsonl", "parquet")),
        *((end, (0, 1), ["0", "1"]) for end in ("csv", "tsv", "jsonl", "parquet")),
        *((end, (0.0, 1.0), ["0", "1"]) for end in ("jsonl", "parquet")),
        *((end, (False, True), ["false", "true"]) for end in ("jsonl", "parquet")),
        *((end, (False, True), ["False", "True"]) for end in ("csv", "tsv")),
    ],
)
def test_files_of_ones_own(
    ending: str,
    labels: tuple[Any, Any],
    words: list[str],
    tmp_path: Path,
    labelled_config: Configure,
) -> None:
    texts = [text.replace("\n", " ") for text in TEXTS] if ending == "tsv" else TEXTS
    rows = [{"id": n, "said": text, "is": labels[n % 2]} for n, text in enumerate(texts)]
    file = write(tmp_path / f"rows.{ending}", rows)
    config = labelled_config(
        f"finetune.train={file}", f"finetune.validation={file}", f"finetune.test={file}",
        "finetune.text=said", "finetune.label=is",
    )  # fmt: skip
    splits = read_splits(config)
    assert splits.train.texts == splits.test["test"].texts == texts
    assert number_labels(splits, None) == words
    assert splits.train.labels == [words[0], words[1], words[0]]


@pytest.mark.parametrize("named", [["true", "false"], ["True", "False"], ["1", "0"]])
def test_booleans_have_the_names_that_are_given_to_them(
    named: list[str], tmp_path: Path, labelled_config: Configure
) -> None:
    rows = [{"text": "A.", "label": True}, {"text": "B.", "label": False}]
    file = write(tmp_path / "rows.jsonl", rows)
    config = labelled_config(
        f"finetune.train={file}", f"finetune.validation={file}", f"finetune.labels={named}"
    )
    splits = read_splits(config)
    assert number_labels(splits, config.labels) == splits.train.labels == config.labels
    assert [label.lower() for label in config.labels or ()] == [name.lower() for name in named]


def test_a_data_set_in_the_form_of_the_hub(
    tmp_path: Path, labelled_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    features = Features({"sentence": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    rows = {"sentence": ["Dull.", "Fine."], "label": [0, 1]}
    made = Dataset.from_dict(rows, features=features)
    (tmp_path / "hub").mkdir()
    for split in ("train", "validation"):
        made.to_parquet(tmp_path / "hub" / f"{split}.parquet")
    # GLUE's files say 0 and 1 where the Hub's copy has names: what is submitted are the files'.
    place = (f"finetune.hub={tmp_path}/hub", "finetune.hub_config=null")
    glue = labelled_config("finetune=sst2", *place)
    assert read_splits(glue).train.labels == ["0", "1"]
    own = labelled_config(f"finetune.hub={tmp_path}/hub", "finetune.text=sentence")
    splits = read_splits(own)
    assert splits.train.labels == ["bad", "good"]
    assert splits.test == {}
    with pytest.raises(UserError, match=r"finetune\.text=text: '.*hub' has no such column; it has"):
        read_splits(labelled_config(f"finetune.hub={tmp_path}/hub"))


def test_other_columns_of_the_files_of_glue(glue: Path, labelled_config: Configure) -> None:
    place = ("finetune=stsb", f"finetune.path={glue}")
    turned = ("finetune.text=sentence2", "finetune.text_b=sentence1", "finetune.label=year")
    splits = read_splits(labelled_config(*place, *turned))
    assert splits.train.texts_b == ["A plane.", "A cat."]
    assert splits.train.texts == ["A jet.", "A jet."]
    assert splits.train.labels == [2012.0, 2012.0]


@pytest.mark.parametrize("other", ["finetune=rte", "finetune.hub=somebody/something"])
@pytest.mark.parametrize("key", ["train", "validation", "test"])
def test_files_beside_splits_that_there_are(
    key: str, other: str, labelled_config: Configure
) -> None:
    said = f"finetune.{key}: is for finetune=text with files of one's own; finetune.hub and"
    with pytest.raises(UserError, match=said):
        labelled_config(other, f"finetune.{key}=a.csv")


SCORES = ["finetune.kind=regression", "finetune.metrics=[pearson]"]
ROWS = [{"text": f"text {n}", "label": n % 2} for n in range(4)]
MISTAKES: dict[str, tuple[list[dict[str, Any]], list[str], str]] = {
    "missing column": (
        [{"txet": "a", "label": 1}], [], "finetune.text=text: '{}.csv' has no such column; it has "
        "txet, label. Did you mean 'txet'?",
    ),
    "missing label": (
        [{"text": "a", "y": 1}], [], "finetune.label=label: '{}.csv' has no such column; it has "
        "text, y.",
    ),
    "unknown label": (
        [*ROWS, {"text": "b", "label": 7}], [], "{}.csv, row 5: the label '7' is none of those to "
        "train on (0, 1); finetune.labels=[...] can name it.",
    ),
    "a label that is not wanted": (
        [*ROWS, {"text": "b", "label": 7}], ["finetune.labels=[0, 1, 2]"],
        "{}.csv, row 5: the label '7' is none of finetune.labels=[0, 1, 2].",
    ),
    "no label": ([*ROWS, {"text": "b", "label": ""}], [], "{}.csv, row 5: has no label."),
    "a score that is text": (
        [{"text": "a", "label": "high"}], SCORES,
        "{}.csv, row 1: the score is 'high' where finetune.kind=regression needs a number.",
    ),
    "a score that is none": (
        [{"text": "a", "label": "nan"}], SCORES,
        "{}.csv, row 1: the score is 'nan' where finetune.kind=regression needs a number.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_names_the_file_and_the_row(
    mistake: str, tmp_path: Path, labelled_config: Configure
) -> None:
    rows, overrides, said = MISTAKES[mistake]
    train = [{"text": "a", "label": n} for n in (0, 1, 1)]
    config = labelled_config(
        f"finetune.train={write(tmp_path / 'train.csv', train)}",
        f"finetune.validation={write(tmp_path / 'dev.csv', rows)}",
        *overrides,
    )
    with pytest.raises(UserError) as caught:
        number_labels(read_splits(config), config.labels)
    assert str(caught.value) == said.format(tmp_path / "dev")


GLUE_MISTAKES = {
    "another column": (
        "dev.tsv", "index\tpremise\tsentence2\tlabel\n0\tA.\tB.\tentailment\n",
        "finetune.text=sentence1: '{}/dev.tsv' has no such column; it has index, premise, "
        "sentence2, label. Did you mean 'sentence2'?",
    ),
    "an unknown label": (
        "dev.tsv", "index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\tyes\n",
        "{}/dev.tsv, row 1: the label 'yes' is none of finetune.labels=[entailment, "
        "not_entailment].",
    ),
    "only names": (
        "dev.tsv", "index\tsentence1\tsentence2\tlabel\n",
        "{}/dev.tsv: has no rows; at least one is needed.",
    ),
    "spaces for tabs": (
        "dev.tsv", "index\tsentence1\tsentence2\tlabel\n0 A. B. entailment\n",
        "{}/dev.tsv: no line has all columns, separated by tabs.",
    ),
    "a test cut short": (
        "test.tsv", "index\tsentence1\tsentence2\n0\tA.\tB.\n1\tC.\n",
        "{}/test.tsv, row 2: has nothing where a text should be.",
    ),
    "another folder": (
        "train.tsv", None, "finetune.path={}: has neither a folder RTE nor a train.tsv.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", GLUE_MISTAKES)
def test_a_mistake_in_the_files_of_glue(
    mistake: str, tmp_path: Path, glue: Path, labelled_config: Configure
) -> None:
    name, content, said = GLUE_MISTAKES[mistake]
    for file in (glue / "RTE").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    config = labelled_config("finetune=rte", f"finetune.path={tmp_path}")
    with pytest.raises(UserError) as caught:
        number_labels(read_splits(config), config.labels)
    assert str(caught.value) == said.format(tmp_path)


FILES = {
    "empty.csv": ("", "finetune.train: '{}' is empty."),
    "header.csv": ("text,label\n", "{}: has no rows; at least one is needed."),
    "nowhere.csv": (None, "finetune.train: there is no file '{}' (looked in "),
    "table.xlsx": ("PK", "finetune.train: '{}' is no CSV, TSV, JSON, JSON Lines, Parquet or Arrow"),
    "list.jsonl": ("[1]\n", "finetune.train: '{}', line 1 is not a JSON object ({{...}})."),
    "cut.jsonl": ('{"text": "a', "finetune.train: '{}', line 1 is not JSON: Unterminated string"),
    "junk.parquet": ("PAR1 junk", "finetune.train: '{}' is not readable as Parquet: "),
    "null.jsonl": ('{"text": null, "label": 1}', "{}, row 1: has nothing where a text should be."),
    "number.jsonl": ('{"text": 3, "label": 1}', "{}, row 1: has '3' where a text should be."),
    "one.csv": ("text,label\na,1\nb,1\n", "{}: has the one label '1'; two are needed."),
    "latin.csv": (b"text,label\n\xe9,1\n", "finetune.train: '{}' is not UTF-8 at byte 11; convert"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_used_is_said_in_one_line(
    name: str, tmp_path: Path, labelled_config: Configure
) -> None:
    content, said = FILES[name]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    config = labelled_config(f"finetune.train={path}", f"finetune.validation={path}")
    with pytest.raises(UserError) as caught:
        number_labels(read_splits(config), config.labels)
    assert str(caught.value).startswith(said.format(path))
    assert "\n" not in str(caught.value)


def test_data_that_are_nowhere_named(labelled_config: Configure) -> None:
    with pytest.raises(UserError, match=r"finetune\.train is not set: finetune=text needs"):
        read_splits(labelled_config())
    with pytest.raises(UserError, match=r"finetune\.path and finetune\.hub are not set"):
        read_splits(labelled_config("finetune=rte", "finetune.hub=null"))


BABYLM_ROW = {
    **{"question": "Q", "answer": "A", "paragraph": "P", "passage": "P", "text": "T"},
    **{"span1_text": "the cat", "span2_text": "it", "sentence1": "a", "sentence2": "b"},
    **{"question1": "a", "question2": "b", "premise": "a", "hypothesis": "b"},
}


@pytest.mark.parametrize(
    ("task", "first", "second"),
    [
        ("boolq", "Q", "P"),
        ("multirc", "Question: Q Answer: A", "P"),
        ("rte", "a", "b"),
        ("wsc", 'Does "it" refer to "the cat" in this passage?', "T"),
        ("mrpc", "a", "b"),
        ("qqp", "a", "b"),
        ("mnli", "a", "b"),
    ],
)
def test_babylms_tasks_are_read_as_its_pipeline_does(
    task: str, first: str, second: str, labelled_config: Configure, tmp_path: Path
) -> None:
    for file in ("train", "valid", "mm.valid"):
        name = f"mnli-{file}" if file.startswith("mm") else f"{task}.{file}"
        rows = [json.dumps({**BABYLM_ROW, "label": label}) for label in (1, 0)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    splits = read_splits(labelled_config(f"finetune=babylm_{task}", f"finetune.path={tmp_path}"))
    assert splits.train.texts == [first] * 2
    assert splits.train.texts_b == [second] * 2
    assert splits.train.labels == ["1", "0"]
    assert splits.validation.keys() == ({"", "mismatched"} if task == "mnli" else {""})
    assert splits.test.keys() == ({"mnli", "mnli-mm"} if task == "mnli" else {task})
    # The form of the pipeline's finetune/run.py.
    assert json.loads(in_babylm_form(task, ["1", "0"])) == {
        task: {"predictions": [{"id": f"{task}_0", "pred": 1}, {"id": f"{task}_1", "pred": 0}]}
    }


def test_babylms_folder_has_to_be_named(labelled_config: Configure) -> None:
    with pytest.raises(UserError, match=r"^finetune\.path is not set: finetune=babylm_rte needs"):
        read_splits(labelled_config("finetune=babylm_rte"))
