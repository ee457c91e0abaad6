"""Labelled texts as they were written: in GLUE's folders, on the Hub or in the user's own files."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bertexp.data.corpora.columnar import Columns, Row, missing_column
from bertexp.data.corpora.finding import find
from bertexp.data.corpora.formats import detect_table
from bertexp.data.corpora.opening import Part
from bertexp.data.corpora.tables import read_rows
from bertexp.data.hub import loading
from bertexp.files import expanded
from bertexp.finetune.config import BABYLM, GLUE, HUB_SPLITS, TEXT, GlueTask, LabelledConfig
from bertexp.finetune.rows import Split, filled, wanted_columns
from bertexp.validation import UserError

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger(__name__)

TRAIN = "train.tsv"


@dataclass(frozen=True)
class Splits:
    """All splits of a task.

    Attributes:
        validation: the validation sets by condition; the first, ``""``, decides.
        test: the test sets, without labels, by the name of their submission.
    """

    train: Split
    validation: dict[str, Split]
    test: dict[str, Split]


def read_splits(config: LabelledConfig) -> Splits:
    if config.name == TEXT and not config.hub:
        return _own_files(config)
    if config.name in BABYLM:
        return _babylm_folder(config)
    if config.path:
        return _glue_folder(config, GLUE[config.name])
    return _hub(config)


def _own_files(config: LabelledConfig) -> Splits:
    for key in ("train", "validation"):
        if getattr(config, key) is None:
            raise UserError(
                f"finetune.{key} is not set: finetune=text needs finetune.train=FILE and "
                "finetune.validation=FILE, or finetune.hub=NAME."
            )

    def read(split: str, labelled: bool) -> Split:
        return _read_files(str(getattr(config, split)), f"finetune.{split}", config, labelled)

    test = {"test": read("test", False)} if config.test else {}
    return Splits(read("train", True), {"": read("validation", True)}, test)


def _babylm_folder(config: LabelledConfig) -> Splits:
    if config.path is None:
        raise UserError(
            f"finetune.path is not set: finetune={config.name} needs the folder of the "
            "challenge's files, glue_filtered."
        )
    folder = expanded(config.path)

    def read(name: str, labelled: bool) -> Split:
        return _read_files(str(folder / f"{name}.jsonl"), "finetune.path", config, labelled)

    tasks = BABYLM[config.name]
    return Splits(
        read(f"{tasks['']}.train", True),
        {condition: read(f"{task}.valid", True) for condition, task in tasks.items()},
        {task: read(f"{task}.valid", False) for task in tasks.values()},
    )


def _read_files(name: str, key: str, config: LabelledConfig, labelled: bool) -> Split:
    rows = _rows(name, key, wanted_columns(config, labelled))
    return filled(name, rows, config, labelled)


def _rows(
    name: str, key: str, columns: Columns, header: Sequence[str] | None = None
) -> Iterator[Row]:
    for path in find([name], key):
        kind = detect_table(path, [column for column, _ in columns], key)
        found = read_rows(Part(path, key=key), kind, columns, header=header)
        yield from (row for _, _, row in found)


def _glue_folder(config: LabelledConfig, task: GlueTask) -> Splits:
    folder = expanded(str(config.path))
    # Either the task's own folder or the folder of all nine.
    if (folder / task.folder).is_dir():
        folder = folder / task.folder
    if not folder.is_dir():
        raise UserError(f"finetune.path={config.path}: there is no such folder.")
    if not (folder / TRAIN).exists():
        raise UserError(
            f"finetune.path={config.path}: has neither a folder {task.folder} nor a {TRAIN}."
        )

    def read(name: str, labelled: bool) -> Split:
        columns = [(task.columns.get(c, c), key) for c, key in wanted_columns(config, labelled)]
        header = task.header if labelled else None
        rows = [*_rows(str(folder / name), "finetune.path", columns, header)]
        # Some lines of QQP were cut in two; GLUE's own reader leaves them out too. Of what is
        # submitted, where answers are counted, none may be missing.
        whole = [row for row in rows if None not in row] if labelled else rows
        if rows and not whole:
            raise UserError(f"{folder / name}: no line has all columns, separated by tabs.")
        if len(whole) < len(rows):
            log.info("%s: %d damaged lines are left out.", folder / name, len(rows) - len(whole))
        return filled(str(folder / name), whole, config, labelled)

    validation = {name: read(file, True) for name, file in task.validation.items()}
    test = {n: read(file, False) for n, file in task.test.items() if (folder / file).exists()}
    return Splits(read(TRAIN, True), validation, test)


def _hub(config: LabelledConfig) -> Splits:
    names = {"": "validation"}, {"test": "test"}
    if config.name in GLUE:
        names = names[0], dict.fromkeys(GLUE[config.name].test, "test")
    validation, test = HUB_SPLITS.get(config.name, names)

    def read(split: str, labelled: bool, optional: bool = False) -> Split | None:
        data = _load_split(config, split, optional)
        if data is None:
            return None
        columns = wanted_columns(config, labelled)
        for column, key in columns:
            if column not in data.column_names:
                raise missing_column(key, column, f"'{config.hub}'", data.column_names)
        names = getattr(data.features.get(config.label), "names", None)
        # The names of classes where the task knows them, their numbers where it does not.
        known = config.labels is None or set(names or ()) == set(config.labels)
        rows: Iterable[Row] = zip(*(data[column] for column, _ in columns), strict=True)
        if labelled and names and known:
            rows = ((*row[:-1], names[row[-1]]) for row in rows)
        return filled(f"{config.hub}, {split}", rows, config, labelled)

    train = read("train", True)
    assert train is not None
    return Splits(
        train,
        {name: found for name, split in validation.items() if (found := read(split, True))},
        {name: found for name, split in test.items() if (found := read(split, False, True))},
    )


def _load_split(config: LabelledConfig, split: str, optional: bool) -> Dataset | None:
    """Return None for a split that is not there and is ``optional``."""
    from datasets import load_dataset

    if config.hub is None:
        raise UserError(
            f"finetune.path and finetune.hub are not set: finetune={config.name} needs one."
        )
    instead = (
        "finetune.path=FOLDER (GLUE's own TSV files), or finetune=text finetune.train=FILE "
        "finetune.validation=FILE"
    )
    try:
        with loading(config.hub, f"finetune.hub={config.hub}", f"the split {split}", instead):
            return load_dataset(config.hub, config.hub_config, split=split)
    except UserError as error:
        if optional and "split" in str(error.__cause__):
            return None
        raise
