"""A file or a folder is replaced as a whole, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bertexp.files import replacing


def write_file(path: Path, text: str) -> None:
    path.write_text(text)


def write_folder(path: Path, text: str) -> None:
    (path / "below").mkdir(parents=True)
    (path / "below" / text).write_text(text)


def content(path: Path) -> list[str]:
    return sorted(file.read_text() for file in [path, *path.rglob("*")] if file.is_file())


Write = Callable[[Path, str], None]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *((None, write_file), (None, write_folder), (write_file, write_file)),
        *((write_file, write_folder), (write_folder, write_folder)),
    ],
)
def test_what_was_there_is_replaced(old: Write | None, new: Write, tmp_path: Path) -> None:
    path = tmp_path / "made" / "it"
    if old:
        path.parent.mkdir()
        old(path, "old")
    with replacing(path) as partial:
        new(partial, "new")
        assert content(path) == (["old"] if old else [])
    assert content(path) == ["new"]
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize("new", [write_file, write_folder])
def test_a_failure_or_a_kill_leaves_what_was_there(new: Write, tmp_path: Path) -> None:
    path = tmp_path / "it"
    new(path, "old")
    with pytest.raises(RuntimeError), replacing(path) as partial:
        new(partial, "new")
        raise RuntimeError
    assert [*tmp_path.iterdir()] == [path]
    write_folder(tmp_path / partial.name, "left by a kill")
    with replacing(path) as partial:
        new(partial, "new")
    assert content(path) == ["new"]
    assert [*tmp_path.iterdir()] == [path]
