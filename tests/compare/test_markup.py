"""The tables for a paper and a page, and the figure: read back by other readers."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from bertexp.compare.plots import save_figure
from bertexp.compare.results import Results
from bertexp.compare.table import latex, markdown
from bertexp.validation import UserError

Simulate = Callable[..., Results]
# What either language gives a meaning to.
ODD = {"plugin.text": ["a|b_c", "50% & $x$", "{~^\\}#"]}


class Cells(HTMLParser):
    """The texts of a page's cells, row by row."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: object) -> None:
        if tag == "tr":
            self.rows.append([])
        self.inside = tag in ("td", "th")
        if self.inside:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, text: str) -> None:
        if self.inside:
            self.rows[-1][-1] += text


def test_a_markdown_table_is_read_as_what_the_terminal_shows(simulate: Simulate) -> None:
    found = simulate()
    page = MarkdownIt("commonmark").enable("table").render(markdown(found))
    head, *rows = Cells(page).rows
    assert head[:3] == ["masking.prob", "seeds", "eval/loss"]
    assert [row[0] for row in rows] == ["0.4", "0.3", "0.2", "0.15", "0.1"]
    for row, setting in zip(rows, found.settings, strict=True):
        assert row[1] == str(setting.seeds)
        assert float(re.split("[ (]", row[2])[0]) == pytest.approx(setting.mean, abs=0.01)
    assert {row[4] for row in rows} <= {"better", "worse", "not resolved", ""}


def test_texts_with_a_meaning_in_either_language_stay_texts(simulate: Simulate) -> None:
    found = simulate(ODD, effect=lambda values: 2.0)
    page = MarkdownIt("commonmark").enable("table").render(markdown(found))
    rows = Cells(page).rows
    assert {len(row) for row in rows} == {len(rows[0])}
    assert {row[0] for row in rows[1:]} == set(ODD["plugin.text"])
    text = latex(found)
    bare = re.sub(r"\\[&%$#_{}]|\\text\w+\{\}", "", text)
    assert bare.count("{") == bare.count("}")
    assert not set("~^#−±") & set(bare)
    lines = [line for line in bare.splitlines() if line.endswith(r"\\")]
    (columns,) = re.findall(r"begin\{tabular\}\{(\w+)\}", text)
    assert {line.count("&") for line in lines} == {len(columns) - 1}
    assert len(lines) == 1 + len(ODD["plugin.text"])


@pytest.mark.parametrize(
    ("suffix", "first"), [("pdf", b"%PDF"), ("svg", b"<?xml"), ("png", b"\x89PNG")]
)
def test_a_figure_is_what_its_name_says_and_the_same_again(
    simulate: Simulate, tmp_path: Path, suffix: str, first: bytes
) -> None:
    found = simulate()
    paths = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    for path in paths:
        save_figure(found, path)
    one, other = (path.read_bytes() for path in paths)
    assert one.startswith(first)
    assert one == other
    assert b"/Type3" not in one


def test_a_figure_that_cannot_be_is_refused(simulate: Simulate, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--save .*no/a\.pdf: cannot be written \(No such file"):
        save_figure(simulate(), tmp_path / "no" / "a.pdf")
    with pytest.raises(UserError, match=r"a\.pdf: no run has eval/loss yet\.$"):
        save_figure(simulate(settings=(), runs=()), tmp_path / "a.pdf")
