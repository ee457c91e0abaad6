"""Large files are read in parts, each by itself, and give the documents of the whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertexp.data.corpora import CORPORA, Corpus, Document, formats, hub_corpus

TEXTS = [
    [f"Paragraph {n} of the text number {number}, which goes on" for n in range(1 + number % 4)]
    for number in range(200)
]


def plain(end: str) -> bytes:
    return (end + end).join(end.join(texts) for texts in TEXTS).encode()


FILES: dict[str, tuple[str, bytes]] = {
    "plain": ("plain", plain("\n")),
    "plain, with a mark and other line ends": ("plain", b"\xef\xbb\xbf" + plain("\r\n")),
    "plain, without any line feed": ("plain", plain("\r")),
    "plain, with blanks in blank lines": ("plain", plain("\n").replace(b"\n\n", b"\n \n", 90)),
    "wrapped": ("wrapped", "\n\n\n".join("\n\n".join(texts) for texts in TEXTS).encode()),
    "wikitext": (
        "wikitext",
        "".join(
            f" = Text {n} = \n \n" + " \n".join(texts) + " . \n \n = = More = = \n \n More . \n \n"
            for n, texts in enumerate(TEXTS)
        ).encode(),
    ),
    "jsonl": ("jsonl", "\n".join(json.dumps({"text": "\n".join(t)}) for t in TEXTS).encode()),
}


def read(corpus: Corpus) -> list[Document]:
    """Return the documents that have text."""
    return [document for document in corpus.documents() if document.paragraphs]


@pytest.mark.parametrize("name", FILES)
def test_parts_of_a_file_give_what_the_whole_does(
    configure: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    kind, content = FILES[name]
    path = tmp_path / "text"
    path.write_bytes(content)
    corpus = CORPORA["text"](configure("text", files=[str(path)], format=kind))
    whole = read(corpus)
    assert len(whole) == len(TEXTS)
    monkeypatch.setattr(formats, "PART_BYTES", 1000)
    assert read(corpus) == whole
    count = len(corpus.shards())
    assert count == 1 if "without" in name else count > 5


def test_row_groups_are_parts(
    configure: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pa.table({"text": ["\n".join(texts) for texts in TEXTS]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    corpus = CORPORA["text"](configure("text", files=[str(tmp_path / "a.parquet")]))
    whole = read(corpus)
    assert [d.paragraphs for d in whole] == TEXTS
    monkeypatch.setattr(formats, "PART_BYTES", 1000)
    assert read(corpus) == whole
    assert len(corpus.shards()) > 5


@pytest.mark.parametrize(("option", "shards"), [("wikipedia", 10), ("bookcorpus", 2)])
def test_rows_of_the_hub_are_parted_where_documents_end(
    configure: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, shards: int
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    (tmp_path / "hub").mkdir()
    pq.write_table(pa.table({"text": [t[0] for t in TEXTS]}), tmp_path / "hub" / "train.parquet")
    corpus = CORPORA[option](configure(option, hub={"path": str(tmp_path / "hub"), "config": None}))
    whole = read(corpus)
    monkeypatch.setattr(hub_corpus, "PART_BYTES", 1000)
    assert len(corpus.shards()) >= shards
    assert read(corpus) == whole
