"""The notebooks run, with shorter training, and what is kept of them can be published."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
MAKE = runpy.run_path(str(FOLDER / "make.py"))
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
KEPT = sorted(FOLDER.rglob("*.ipynb"))
# In bytes: what GitHub shows without delay.
LARGEST = 500_000
# Shorter here: 6 steps of training instead of hundreds or 6,000 tokens, few texts in evaluations,
# two seeds.
SHORTER = {
    r'(trainer\.max_(?:steps|tokens)[\\":= ]+)\d+(_000)?': r"\g<1>6\g<2>",
    r'(evaluation\.max_examples[\\":= ]+)\d+': r"\g<1>16",
    r"seed=\[0, 1, 2\]": "seed=[0, 1]",
}


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A cache in which the default corpus is prepared once."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTEXP_CACHE", cache)
    short = tmp_path / path.name
    text = path.read_text("utf-8")
    for pattern, shorter in SHORTER.items():
        text = re.sub(pattern, shorter, text)
    short.write_text(text, "utf-8")
    book = MAKE["executed"](short, tmp_path)
    for new, kept in zip(*map(MAKE["code_cells"], (book, read(path))), strict=True):
        shown = [[sorted(each.data) for each in cell.outputs] for cell in (new, kept)]
        assert shown[0] == shown[1]


@pytest.mark.parametrize("path", KEPT, ids=lambda path: str(path.relative_to(FOLDER)))
def test_what_is_kept_can_be_published(path: Path) -> None:
    content = path.read_text(encoding="utf-8")
    assert len(content.encode()) < LARGEST
    assert not re.search(
        r'"output_type": "(stream|error)"|widget|/(home|root|tmp|Users|work)/', content
    )
    counts = [cell.execution_count for cell in MAKE["code_cells"](read(path))]
    assert counts == [*range(1, len(counts) + 1)]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("ko/*.ipynb")), ids=lambda path: path.stem)
def test_a_translation_has_the_same_code_and_outputs(path: Path) -> None:
    def parts(path: Path) -> list[tuple[str, Any]]:
        cells = MAKE["code_cells"](read(path))
        return [(re.sub(r"(^| +)#.*", "", cell.source, flags=re.M), cell.outputs) for cell in cells]

    assert parts(path) == parts(FOLDER / path.name)
