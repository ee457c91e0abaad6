"""Hub corpora, read from local folders in the Hub's form, and what is said without a network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertexp.data.corpora.corpus import prepare
from bertexp.validation import UserError


@pytest.fixture(autouse=True)
def own_datasets_cache(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


def save(folder: Path, **splits: list[str | None]) -> Path:
    folder.mkdir(exist_ok=True)
    for split, rows in splits.items():
        pq.write_table(pa.table({"text": rows}), folder / f"{split}.parquet")
    return folder


def test_wikitext_keeps_its_splits_and_their_titles(configure, tmp_path):
    train = ["", " = Nero = \n", "", " He ruled . \n", " = = Life = = \n", " Born . \n"]
    train += [" = Copy = \n", " Of validation . \n"]
    validation = [" = Seneca = \n", " He wrote . \n", " = Other = \n", " Of validation . \n"]
    folder = save(tmp_path / "wiki", train=train, validation=validation)
    hub = {"path": str(folder), "config": None}
    store = prepare(configure("wikitext2", hub=hub))
    found = {split: list(store.documents(split)) for split in ("train", "validation")}
    assert [(d.name, d.paragraphs) for d in found["train"]] == [("Nero", ["He ruled .", "Born ."])]
    assert [d.name for d in found["validation"]] == ["Seneca", "Other"]
    with pytest.raises(UserError, match="all training text is in validation"):
        prepare(configure("wikitext2", hub={**hub, "validation": "train"}))


def test_max_documents_holds_for_each_split(configure, tmp_path):
    splits = {"train": ["A.", "B.", "C."], "validation": ["D.", "E.", "F."]}
    hub = {"path": str(save(tmp_path / "rows", **splits)), "config": None}
    hub["validation"] = "validation"
    store = prepare(configure("wikipedia", hub=hub, max_documents=2))
    for split, rows in splits.items():
        assert [d.paragraphs for d in store.documents(split)] == [[row] for row in rows[:2]]


@pytest.mark.parametrize("option", ["wikipedia", "hub"])
def test_a_row_is_a_document(configure, tmp_path, option):
    rows = [f"Article {number}.\n\nIts end." for number in range(5)]
    folder = save(tmp_path / "wikipedia", train=[*rows, None, ""])
    store = prepare(configure(option, hub={"path": str(folder), "config": None}))
    documents = [d for split in ("train", "validation") for d in store.documents(split)]
    assert sorted(d.paragraphs for d in documents) == [row.split("\n\n") for row in rows]
    assert store.sizes["validation"].documents == 1


def test_bookcorpus_joins_sentences_and_loses_none(configure, tmp_path):
    rows = [f"sentence {number:03} ." for number in range(250)]
    folder = save(tmp_path / "books", train=rows)
    store = prepare(configure("bookcorpus", hub={"path": str(folder)}))
    documents = [d for split in ("train", "validation") for d in store.documents(split)]
    documents.sort(key=lambda document: document.paragraphs[0])
    assert [len(document.paragraphs) for document in documents] == [10, 10, 5]
    assert " ".join(text for d in documents for text in d.paragraphs) == " ".join(rows)


def test_changed_files_give_another_corpus(configure, tmp_path):
    folder = save(tmp_path / "rows", train=["One.", "Two."])
    config = configure("wikipedia", hub={"path": str(folder), "config": None})
    before = prepare(config)
    assert prepare(config).folder == before.folder
    save(folder, train=["One.", "Three."])
    assert prepare(config).fingerprint != before.fingerprint


@pytest.mark.parametrize(
    ("hub", "keys", "message"),
    [
        ({"path": None}, {}, "dataset.hub.path=null"),
        ({"config": "other"}, {}, "config=other .*Available: .*default"),
        ({"train": "test"}, {}, "split=test: Unknown split"),
        ({}, {"column": "body"}, "dataset.column=body: .* it has text"),
    ],
)
def test_what_is_not_there_is_named(configure, tmp_path, hub, keys, message):
    folder = save(tmp_path / "rows", train=["One.", "Two."])
    hub = {"path": str(folder), "config": None, **hub}
    with pytest.raises(UserError, match=message) as caught:
        prepare(configure("wikipedia", hub=hub, **keys))
    assert "\n" not in str(caught.value)


def test_without_a_network_one_line_names_what_works_offline(tmp_path):
    code = (
        "from tests.data.corpora.conftest import configure\n"
        "from bertexp.data.corpora.corpus import prepare\n"
        "prepare(configure.__wrapped__()('wikitext2'))\n"
    )
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        env=os.environ | nowhere,
        capture_output=True,
        text=True,
        timeout=20,
    )
    last = result.stderr.strip().splitlines()[-1]
    assert "dataset=pydoc" in last
    assert "dataset=text" in last
