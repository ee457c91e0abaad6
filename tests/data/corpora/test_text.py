"""Reading a user's own files: what comes out, and what is said when something is wrong."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertexp.data.config import DatasetConfig
from bertexp.data.corpora import CORPORA
from bertexp.data.corpora.formats import detect
from bertexp.validation import UserError

_CHARACTERS = st.characters(codec="utf-8", exclude_characters="\r\n\0", exclude_categories=["Z"])
Configure = Callable[..., DatasetConfig]

PARAGRAPHS = st.text(_CHARACTERS, min_size=1, max_size=60).filter(str.strip)
DOCUMENTS = st.lists(st.lists(PARAGRAPHS, min_size=1, max_size=4), min_size=1, max_size=5)
LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
BOMS = st.sampled_from([b"", b"\xef\xbb\xbf"])


def read(configure: Configure, *files: Path, **keys: object) -> list[list[str]]:
    """Return the paragraphs of all documents that have any."""
    config = configure("text", files=[str(path) for path in files], **keys)
    found = CORPORA["text"](config).documents()
    return [document.paragraphs for document in found if document.paragraphs]


def written(content: bytes, suffix: str = ".txt") -> Path:
    """Return a new file; hypothesis runs many examples in one test, so tmp_path will not do."""
    handle, name = tempfile.mkstemp(suffix=suffix)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    return Path(name)


def complaint(configure: Configure, *files: object, **keys: object) -> str:
    with pytest.raises(UserError) as caught:
        corpus = CORPORA["text"](configure("text", files=[str(path) for path in files], **keys))
        list(corpus.documents())
    assert "\n" not in str(caught.value)
    return str(caught.value)


@settings(max_examples=50, deadline=None)
@given(documents=DOCUMENTS, end=LINE_ENDS, bom=BOMS, closed=st.booleans())
def test_plain_text_is_read_back(configure, documents, end, bom, closed):
    text = (end + end).join(end.join(paragraphs) for paragraphs in documents) + end * closed
    path = written(bom + text.encode())
    assert read(configure, path, format="plain") == documents
    path.unlink()


@settings(max_examples=50, deadline=None)
@given(documents=DOCUMENTS, end=LINE_ENDS, bom=BOMS)
def test_json_lines_are_read_back(configure, documents, end, bom):
    rows = [json.dumps({"id": 1, "body": "\n".join(paragraphs)}) for paragraphs in documents]
    path = written(bom + end.join(rows).encode())
    assert read(configure, path, format="jsonl", column="body") == documents
    path.unlink()


@settings(max_examples=25, deadline=None)
@given(documents=DOCUMENTS)
def test_parquet_is_read_back(configure, documents):
    path = written(b"", ".parquet")
    pq.write_table(pa.table({"text": [None, *map("\n".join, documents)]}), path, row_group_size=2)
    assert read(configure, path) == documents
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
    path = written(text.replace("\n", end).encode())
    assert read(configure, path, format="wrapped") == documents
    path.unlink()


@pytest.mark.parametrize("blank_lines", [True, False])
def test_wikitext_titles_open_documents_and_sections_are_dropped(configure, tmp_path, blank_lines):
    lines = [" = Nero = ", " He ruled . ", " = = Life = = ", " = = = Youth = = = ", " Born . "]
    lines += [" = E = mc² = ", " A formula . "]
    gap = "\n \n" if blank_lines else "\n"
    path = tmp_path / "wiki.raw"
    path.write_text(gap + gap.join(lines) + gap, encoding="utf-8")
    assert detect(path) == "wikitext"
    assert read(configure, path) == [[" He ruled . ", " Born . "], [" A formula . "]]


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
    assert read(configure, path) == [["One.", "Two."], ["Three."]]
    path.write_bytes(pack(b"One.\nTwo.\n\nThree.\n" * 100)[:-12])
    assert f"'{path}'" in complaint(configure, path)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", b"A sentence a line.\nAnother sentence.\n\nThe next document.\n", "plain"),
        ("a.txt", b"A novel that an editor has filled to a width, so that its lines end\n"
                  b"anywhere and a paragraph takes several of them, as in a book on\n"
                  b"paper.\n\nThe next one.\n", "wrapped"),
        ("a.txt", b'{"text": "one"}\n', "jsonl"),
        ("a.jsonl", b"not json\n", "jsonl"),
        ("a.txt", b"PAR1....", "parquet"),
        ("a.txt", b"one\ntwo\nthree\n", "plain"),
    ],
)  # fmt: skip
def test_auto_recognises_formats(tmp_path, name, content, expected):
    path = tmp_path / name
    path.write_bytes(content)
    assert detect(path) == expected


def test_patterns_are_sorted_recursive_and_name_a_file_once(configure, tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("z.txt", "b/a.txt", "b/skip.md"):
        (tmp_path / name).write_text(name)
    (tmp_path / "empty.txt").touch()
    assert read(configure, tmp_path / "**" / "*.txt", tmp_path / "z.txt") == [
        ["b/a.txt"],
        ["z.txt"],
    ]


def test_a_line_of_ten_megabytes_is_cut_into_documents(configure, tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("word " * 2_000_000 + "\n\nend")
    found = read(configure, path)
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
    advice = complaint(configure, tmp_path).split("write '")[1].split("'")[0]
    assert read(configure, Path(advice)) == [["text"]]


@pytest.mark.parametrize("before", [0, 65535, 100_000])
@pytest.mark.parametrize("bad", [b"\xff", b"\xc3(", b"\xe2\x82"])
def test_invalid_utf8_is_named_by_its_byte(configure, tmp_path, before, bad):
    path = tmp_path / "latin.txt"
    path.write_bytes(b"x" * before + bad)
    assert f"'{path}' is not UTF-8 at byte {before};" in complaint(configure, path)
    assert read(configure, path, errors="replace")[0][0].startswith("x" * before + "�")


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
