"""The forms in which people have their texts: read alike, told by a look, or refused by name."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import re
import tarfile
import tempfile
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertexp.data.config import DatasetConfig
from bertexp.data.corpora import CORPORA, Document, tables
from bertexp.data.corpora.corpus import prepare
from bertexp.data.corpora.formats import detect
from bertexp.finetune.config import LabelledConfig
from bertexp.finetune.sources import read_splits
from bertexp.validation import UserError

Configure = Callable[..., DatasetConfig]
Labelled = Callable[..., LabelledConfig]

TEXTS = ["The first, of one line.", "A second “text”; it has more.", "Größe: 1,5 m.", "The last."]
ROWS = [{"id": n, "text": text, "label": n % 2} for n, text in enumerate(TEXTS)]


def separated(separator: str) -> str:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, [*ROWS[0]], delimiter=separator)
    writer.writeheader()
    writer.writerows(ROWS)
    return file.getvalue()


def table(kind: pa.DataType | None = None) -> pa.Table:
    made = pa.Table.from_pylist(ROWS)
    return made if kind is None else made.set_column(1, "text", made["text"].cast(kind))


def parquet(kind: pa.DataType) -> Callable[[Path], None]:
    return lambda path: pq.write_table(table(kind), path)


def arrow(new: Callable[..., pa.RecordBatchWriter]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with pa.OSFile(str(path), "wb") as sink, new(sink, table().schema) as writer:
            writer.write_table(table())

    return write


def packed(pack: Callable[[bytes], bytes], content: str) -> Callable[[Path], int]:
    return lambda path: path.write_bytes(pack(content.encode()))


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__MACOSX/._rows.csv", "junk")
        archive.writestr("data/rows.CSV", separated(","))


def tarred(path: Path) -> None:
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("data/rows.jsonl")
        content = "\n".join(map(json.dumps, ROWS)).encode()
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, "zstd", asbytes=True))


LINES = "\n".join(map(json.dumps, ROWS))
FORMS: dict[str, str | Callable[[Path], object]] = {
    "rows.csv": separated(","),
    "ROWS.CSV": separated(";"),
    "tabs.csv": separated("\t"),
    "rows.tsv": "\n".join("\t".join(map(str, row)) for row in [ROWS[0], *map(dict.values, ROWS)]),
    "sniffed.txt": separated(","),
    "rows.csv.gz": packed(gzip.compress, separated(",")),
    "array.json": json.dumps(ROWS),
    "indented.json": json.dumps(ROWS, indent=2),
    "lines.json": LINES,
    "objects.json": "\n".join(json.dumps(row, indent=1) for row in ROWS),
    "spaced.txt": "\n".join(json.dumps(row).replace("{", "{ ") for row in ROWS),
    "rows.jsonl.zst": packed(zstd, LINES),
    "string.parquet": parquet(pa.string()),
    "large.parquet": parquet(pa.large_string()),
    "view.parquet": parquet(pa.string_view()),
    "bytes.parquet": parquet(pa.binary()),
    "words.parquet": lambda path: pq.write_table(
        table().set_column(1, "text", table()["text"].dictionary_encode()), path
    ),
    "file.arrow": arrow(pa.ipc.new_file),
    "stream.arrow": arrow(pa.ipc.new_stream),
    "rows.feather": lambda path: feather.write_feather(table(), path),
    "rows.zip": zipped,
    "rows.tar.gz": tarred,
}


def written(folder: Path, form: str) -> Path:
    content, path = FORMS[form], folder / form
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8", newline="")
    else:
        content(path)
    return path


def documents(configure: Configure, *paths: object, **keys: object) -> list[Document]:
    corpus = CORPORA["text"](configure("text", files=[*map(str, paths)], **keys))
    return [document for document in corpus.documents() if document.paragraphs]


def texts(configure: Configure, *paths: object, **keys: object) -> list[list[str]]:
    return [document.paragraphs for document in documents(configure, *paths, **keys)]


def complaint(configure: Configure, *paths: object, **keys: object) -> str:
    with pytest.raises(UserError) as caught:
        texts(configure, *paths, **keys)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("form", FORMS)
def test_a_table_is_read_in_any_form_for_pre_training_and_for_fine_tuning(
    configure: Configure, labelled_config: Labelled, tmp_path: Path, form: str
) -> None:
    path = written(tmp_path, form)
    assert texts(configure, path) == [[text] for text in TEXTS]
    splits = read_splits(labelled_config(f"finetune.train={path}", f"finetune.validation={path}"))
    assert splits.train.texts == TEXTS
    assert splits.train.labels == ["0", "1", "0", "1"]


NESTED = [{"doc": {"title": "A title", "body": ["One.", "Two."]}, "n": 1}, {"doc": None, "n": 2}]


@pytest.mark.parametrize("form", ["rows.jsonl", "rows.json", "rows.parquet", "rows.arrow"])
def test_columns_may_be_several_and_nested(configure: Configure, tmp_path: Path, form: str) -> None:
    path = tmp_path / form
    if form.endswith("json"):
        path.write_text(json.dumps(NESTED))
    elif form.endswith("jsonl"):
        path.write_text("\n".join(map(json.dumps, NESTED)))
    elif form.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(NESTED), path)
    else:
        feather.write_feather(pa.Table.from_pylist(NESTED), path)
    assert texts(configure, path, column="doc.title") == [["A title"]]
    both = ["doc.title", "doc.body"]
    assert texts(configure, path, column=both) == [["A title", "One.", "Two."]]
    assert "has int there, not text" in complaint(configure, path, column="n")
    assert "column=dok.title: " in complaint(configure, path, column="dok.title")


def test_a_large_array_is_read_a_stretch_at_a_time(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "JSON_AT_ONCE", 7)
    rows = [
        {"text": 'A "quoted" word, \\ and {braces} of \n the text é' * (n % 5)} for n in range(40)
    ]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows, indent=1))
    assert len(texts(configure, path)) == 32
    whole = path.read_text()
    path.write_text(whole[:-1])
    assert "is cut off: it ends without a ']'" in complaint(configure, path)
    path.write_text(whole.replace('"text"', '"text" "text"').replace('"text" ', "", 3))
    assert "row 4 is not JSON: Expecting ':' delimiter" in complaint(configure, path)


def test_bytes_that_are_not_utf_8_in_parquet(configure: Configure, tmp_path: Path) -> None:
    column = pa.array([b"fine", b"caf\xe9", None], pa.binary()).view(pa.string())
    for name, values in {"plain": column, "words": column.dictionary_encode()}.items():
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({"text": values}), path)
        assert f"'{path}', row 2 is not UTF-8; set dataset.errors=replace" in complaint(
            configure, path
        )
        assert texts(configure, path, errors="replace") == [["fine"], ["caf�"]]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_byte_order_mark_tells_the_encoding(
    configure: Configure, tmp_path: Path, encoding: str
) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("Größe.\r\nZwei.\r\n\r\nDrei.\r\n".encode(encoding))
    assert texts(configure, path) == [["Größe.", "Zwei."], ["Drei."]]


SENTENCES = [
    f"The {n} rivers pass the old stone and the garden near the {n} bridges" for n in "abcdef"
]
DETECTED = {
    "one sentence a line, without full stops": (
        "\n".join(SENTENCES) + "\n\n" + SENTENCES[0],
        "plain",
    ),
    "one text a line": ("\n".join(SENTENCES * 200), "lines"),
    "commas in prose": ("First, second.\nThird, fourth.\n\nFifth, sixth.\n" * 5, "plain"),
    "an object over several lines": ('{\n "text": "a"\n}', "json"),
    "a bracket in prose": ("[Illustration]\n\nChapter one.", "plain"),
    "a sentence a line": ("A sentence a line.\nAnother.\n\nThe next document.\n", "plain"),
    "filled to a width": (
        "A novel that an editor has filled to a width, so that its lines end\n"
        "anywhere and a paragraph takes several of them, as in a book on\npaper.\n\nNext.\n",
        "wrapped",
    ),
    "an object a line": ('{"text": "one"}\n', "jsonl"),
    "the magic of Parquet": ("PAR1....", "parquet"),
    "one of several files": ("one\ntwo\nthree\n", "plain"),
}


@pytest.mark.parametrize("name", DETECTED)
def test_the_form_of_a_text_is_told_by_a_look(tmp_path: Path, name: str) -> None:
    content, expected = DETECTED[name]
    (tmp_path / "text.txt").write_text(content)
    assert detect(tmp_path / "text.txt", ["text"]) == expected


def test_lines_are_documents_in_the_only_file_without_blank_lines_or_if_said(
    configure: Configure, tmp_path: Path
) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("One.\nTwo.\nThree.\n")
    both = [tmp_path / "a.txt", tmp_path / "b.txt"]
    assert texts(configure, both[0]) == [["One."], ["Two."], ["Three."]]
    assert texts(configure, *both) == [["One.", "Two.", "Three."]] * 2
    assert texts(configure, *both, format="lines") == [["One."], ["Two."], ["Three."]] * 2


REFUSED = {
    "another column": (
        separated(","),
        {"column": "body"},
        "looks like a table; dataset.format=csv",
    ),
    "tabs": (
        "ham\tGo now.\n" * 6,
        {},
        "looks like a table; dataset.format=tsv reads the dataset.c",
    ),
    "html": ("\n<!DOCTYPE html>\n<p>Text", {}, "is XML or HTML; save its text as a text file"),
    "pdf": ("%PDF-1.7 ", {}, "is a PDF document"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_text_as_it_is_is_refused_unless_said(
    configure: Configure, tmp_path: Path, name: str
) -> None:
    content, keys, said = REFUSED[name]
    path = tmp_path / "file.txt"
    path.write_text(content)
    assert f"dataset.files: '{path}' {said}" in complaint(configure, path, **keys)
    assert texts(configure, path, **keys, format="plain")


def test_archives_that_hold_no_text(configure: Configure, tmp_path: Path) -> None:
    path = tmp_path / "letter.docx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "<x/>")
    assert "is a document; save its text" in complaint(configure, path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folder/", "")
    assert "has no file with text" in complaint(configure, path)
    zipped(path)
    path.write_bytes(path.read_bytes()[:-30])
    assert "is damaged or cut off: File is not a zip file" in complaint(configure, path)


BOOK = [
    f"Chapter paragraph {n} goes on about the {n} rivers for quite some time." for n in range(99)
]


@pytest.mark.parametrize("end", ["\n\n\n", "\n\n", " "], ids=["wrapped", "paragraphs", "one line"])
def test_a_book_in_one_document_is_cut_into_parts(
    configure: Configure, tmp_path: Path, end: str
) -> None:
    kind = "plain" if end == " " else "wrapped"
    (tmp_path / "book.txt").write_text((end if end != "\n\n\n" else "\n\n").join(BOOK))
    config = configure("text", files=[str(tmp_path / "book.txt")], format=kind)
    store = prepare(config)
    assert store.parted
    assert store.source == kind
    sizes = store.sizes
    assert sizes["validation"].documents == 2
    share = sizes["validation"].characters / sizes["train"].characters
    assert 0.03 < share < 0.1
    every = [*store.documents("train"), *store.documents("validation")]
    every.sort(key=lambda document: int(document.name.split()[-1]))
    found = " ".join(text for document in every for text in document.paragraphs)
    assert found == " ".join(BOOK)


def test_much_more_for_validation_than_wanted_is_a_warning(
    configure: Configure, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "two.txt").write_text(BOOK[0] + "\n\n" + BOOK[1])
    store = prepare(configure("text", files=[str(tmp_path / "two.txt")]))
    assert (store.source, store.parted) == ("plain", False)
    assert "50% of the text is for validation" in caplog.text


def test_the_plan_tells_what_was_found_and_how_much_is_unknown(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    paragraphs = [textwrap.fill(" ".join(text.split()[:9] * 4), 72) for text in BOOK]
    (tmp_path / "book.txt").write_text("\n\n".join(paragraphs))
    done = command(
        *("dataset=text", f"dataset.files={tmp_path}/book.txt", "tokenizer.vocab_size=64"),
        *("trainer.dry_run=true", "trainer.max_steps=2", "model.hidden_size=32"),
    )
    assert done.code == 0, done.lines
    said = " ".join(" ".join(done.lines).split())
    assert re.search(r"corpus text \(wrapped\): 3\d documents, parts of one, of 9\d para", said), (
        said
    )
    assert re.search(r"tokens [\d,]+, 2\d\.\d\d% unknown; vocabulary of 64", said), said
    assert "of the tokens are [UNK], such as" in said
    assert "a larger tokenizer.vocab_size than 64 has more of them" in said


_CHARACTERS = st.characters(codec="utf-8", exclude_characters="\r\n\0", exclude_categories=["Z"])

PARAGRAPHS = st.text(_CHARACTERS, min_size=1, max_size=60).filter(str.strip)
DOCUMENTS = st.lists(st.lists(PARAGRAPHS, min_size=1, max_size=4), min_size=1, max_size=5)
LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
BOMS = st.sampled_from([b"", b"\xef\xbb\xbf"])


def temporary(content: bytes, suffix: str = ".txt") -> Path:
    """Return a new file; hypothesis runs many examples in one test, so tmp_path will not do."""
    handle, name = tempfile.mkstemp(suffix=suffix)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    return Path(name)


@settings(max_examples=50, deadline=None)
@given(documents=DOCUMENTS, end=LINE_ENDS, bom=BOMS, closed=st.booleans())
def test_plain_text_is_read_back(configure, documents, end, bom, closed):
    text = (end + end).join(end.join(paragraphs) for paragraphs in documents) + end * closed
    path = temporary(bom + text.encode())
    assert texts(configure, path, format="plain") == documents
    path.unlink()


@settings(max_examples=50, deadline=None)
@given(documents=DOCUMENTS, end=LINE_ENDS, bom=BOMS)
def test_json_lines_are_read_back(configure, documents, end, bom):
    rows = [json.dumps({"id": 1, "body": "\n".join(paragraphs)}) for paragraphs in documents]
    path = temporary(bom + end.join(rows).encode())
    assert texts(configure, path, format="jsonl", column="body") == documents
    path.unlink()


WORDS = st.lists(st.sampled_from(["one", "wrapped", "word"]), min_size=1)


@settings(max_examples=50, deadline=None)
@given(
    documents=st.lists(st.lists(WORDS.map(" ".join), min_size=1, max_size=3), min_size=1),
    end=LINE_ENDS,
    gap=st.integers(2, 4),
    width=st.integers(20, 80),
)
def test_wrapped_text_is_joined(configure, documents, end, gap, width):
    blocks = [[textwrap.fill(text, width) for text in paragraphs] for paragraphs in documents]
    text = ("\n" * (gap + 1)).join("\n\n".join(paragraphs) for paragraphs in blocks)
    path = temporary(text.replace("\n", end).encode())
    assert texts(configure, path, format="wrapped") == documents
    path.unlink()


@pytest.mark.parametrize("blank_lines", [True, False])
def test_wikitext_titles_open_documents_and_sections_are_dropped(configure, tmp_path, blank_lines):
    lines = [" = Nero = ", " He ruled . ", " = = Life = = ", " = = = Youth = = = ", " Born . "]
    lines += [" = E = mc² = ", " A formula . "]
    gap = "\n \n" if blank_lines else "\n"
    path = tmp_path / "wiki.raw"
    path.write_text(gap + gap.join(lines) + gap, encoding="utf-8")
    assert detect(path) == "wikitext"
    assert texts(configure, path) == [[" He ruled . ", " Born . "], [" A formula . "]]


def test_wikitext_test_split_has_sixty_articles(configure, wiki_file):
    config = configure("text", files=[str(wiki_file)])
    documents = [d for d in CORPORA["text"](config).documents() if d.paragraphs]
    assert len(documents) == 60
    assert [documents[0].name, documents[-1].name] == ["Robert Boulter", "The Hustler ( film )"]
    lines = wiki_file.read_text(encoding="utf-8").splitlines()
    headings = [line for line in lines if line.startswith(" = ") and line.endswith(" = ")]
    # Two formulas that are broken at their equals signs look like headings and are not.
    paragraphs = len(lines) - (len(headings) - 2)
    assert sum(len(document.paragraphs) for document in documents) == paragraphs


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_packed_files_read_like_others(configure, tmp_path, pack):
    path = tmp_path / "packed.txt"
    path.write_bytes(pack(b"One.\nTwo.\n\nThree.\n"))
    assert texts(configure, path) == [["One.", "Two."], ["Three."]]
    path.write_bytes(pack(b"One.\nTwo.\n\nThree.\n" * 100)[:-12])
    assert f"'{path}'" in complaint(configure, path)


def test_patterns_are_sorted_recursive_and_name_a_file_once(configure, tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("z.txt", "b/a.txt", "b/skip.md"):
        (tmp_path / name).write_text(name)
    (tmp_path / "empty.txt").touch()
    assert texts(configure, tmp_path / "**" / "*.txt", tmp_path / "z.txt") == [
        ["b/a.txt"],
        ["z.txt"],
    ]


def test_a_line_of_ten_megabytes_is_cut_into_documents(configure, tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("word " * 2_000_000 + "\n\nend")
    found = texts(configure, path)
    assert [len(paragraphs) for paragraphs in found] == [1] * 4
    assert "".join(paragraphs[0] for paragraphs in found) == "word " * 2_000_000 + "end"


def test_files_that_are_not_there(configure, tmp_path):
    (tmp_path / "corpus.txt").write_text("text")
    assert "Did you mean 'corpus.txt'?" in complaint(configure, tmp_path / "corpsu.txt")
    assert "matches no file" in complaint(configure, tmp_path / "*.md")
    assert "name at least one file" in complaint(configure)
    (tmp_path / "empty.txt").touch()
    assert "is empty" in complaint(configure, tmp_path / "empty.txt")


def test_a_folder_gets_the_pattern_to_write_instead(configure, tmp_path):
    (tmp_path / "corpus.txt").write_text("text")
    advice = complaint(configure, tmp_path).split("as in '")[1].split("'")[0]
    assert texts(configure, Path(advice)) == [["text"]]


@pytest.mark.parametrize("before", [0, 65535, 100_000])
@pytest.mark.parametrize("bad", [b"\xff", b"\xc3(", b"\xe2\x82"])
def test_invalid_utf8_is_named_by_its_byte(configure, tmp_path, before, bad):
    path = tmp_path / "latin.txt"
    path.write_bytes(b"x" * before + bad)
    assert f"'{path}' is not UTF-8 at byte {before};" in complaint(configure, path)
    assert texts(configure, path, errors="replace")[0][0].startswith("x" * before + "�")


def test_binary_and_forbidden_files(configure, tmp_path):
    path = tmp_path / "picture.txt"
    path.write_bytes(b"\x89PNG\0\0\0")
    assert "not a text file" in complaint(configure, path)
    path.write_text("text")
    path.chmod(0)
    if os.geteuid() == 0:
        pytest.skip("root may read every file")
    assert "Permission denied" in complaint(configure, path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not JSON: Expecting property name"),
        ("[1]", "line 2 is not a JSON object"),
        ('{"texts": "x"}', "line 2 has no such column; it has texts. Did you mean 'texts'?"),
        ('{"text": 3}', "line 2 has int there, not text"),
        (r'{"text": "\ud800"}', "line 2 has half a surrogate pair"),
    ],
)
def test_bad_json_lines_are_named(configure, tmp_path, line, message):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n")
    assert message in complaint(configure, path)


def test_bad_parquet_is_named(configure, tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": [1, 2], "title": ["a", "b"]}), path)
    assert "has int there, not text" in complaint(configure, path)
    assert "it has text, title" in complaint(configure, path, column="body")
    path.write_bytes(path.read_bytes()[:-20])
    assert "is not readable as Parquet" in complaint(configure, path)


def test_fingerprint_follows_contents_and_settings(configure, tmp_path):
    path = tmp_path / "a.txt"

    def value(**keys: object) -> str:
        return CORPORA["text"](configure("text", files=[str(path)], **keys)).fingerprint()

    path.write_text("one")
    first = value()
    assert value(format="plain") != first
    path.write_text("two")
    assert value() != first
    path.write_text("one")
    assert value() == first
