"""Checkpoints: whole or not there, whatever happens to the disk and the files on it."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from bertexp.training.checkpoints import Checkpoints, find_checkpoints
from bertexp.validation import UserError

REPEATED = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


OTHERS = [b"[]", b"{}", b"null", b"[" * 9999, b'{"a": 1}']


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file can grow beyond ``size`` bytes: as good as a disk that is full at any byte."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fill(value: float) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        save_file({"weight": torch.full((64,), value)}, folder / "model.safetensors")
        (folder / "config.json").write_text('{"model_type": "bert"}')

    return write


def write(run: Path, *steps: int, keep: int = 9, best: dict[int, int] | None = None) -> Checkpoints:
    checkpoints = Checkpoints(run, keep)
    for step in steps:
        checkpoints.write({"step": step, "best": (best or {}).get(step)}, fill(step))
    return checkpoints


def found(run: Path) -> dict[int, float]:
    """Return the steps that can be trusted, each with the number its weights hold."""
    return {
        whole.step: load_file(whole.path / "model.safetensors")["weight"][0].item()
        for whole in find_checkpoints(run)
    }


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("three")
    write(run, 9, 10, 100)
    return run


def test_the_newest_and_the_best_they_know_are_kept(tmp_path: Path) -> None:
    best = {1: 1, 2: 2, 3: 2, 4: 2, 5: 2, 6: 6, 7: 6, 8: 6}
    kept = []
    for step in best:
        write(tmp_path, step, keep=2, best=best)
        kept.append(set(found(tmp_path)))
    # A best one goes when no checkpoint is left that knows no better.
    assert kept == [{1}, {1, 2}, {2, 3}, {2, 3, 4}, {2, 4, 5}, {2, 5, 6}, {6, 7}, {6, 7, 8}]
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {
        *("step-6", "step-7", "step-8"),
    }


@REPEATED
@given(st.data())
def test_a_change_of_any_byte_of_any_file_is_recognised(three: Path, data: st.DataObject) -> None:
    files = sorted((three / "checkpoints" / "step-100").iterdir())
    assert len(files) == 4
    path = data.draw(st.sampled_from(files))
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "gone", "other"]))
    changed = bytearray(content)
    changed[at] ^= 1 << data.draw(st.integers(0, 7))
    other = data.draw(st.binary(max_size=200) | st.sampled_from(OTHERS))
    written = {"flip": bytes(changed), "cut": content[:at], "other": other}
    try:
        if kind == "gone":
            path.unlink()
        else:
            path.write_bytes(written[kind])
        left = found(three)
        if path.name == "manifest.json" and kind == "flip":
            # White space of another kind means the same.
            assert left in ({9: 9.0, 10: 10.0}, {9: 9.0, 10: 10.0, 100: 100.0})
        else:
            assert left == {9: 9.0, 10: 10.0}
        assert path.parent.exists()
    finally:
        path.write_bytes(content)


@pytest.mark.slow
@REPEATED
@given(st.integers(0, 600))
def test_a_write_that_fails_at_any_byte_leaves_what_was_there(
    tmp_path_factory: pytest.TempPathFactory, size: int
) -> None:
    run = tmp_path_factory.mktemp("full")
    checkpoints = write(run, 1, 2, keep=2)
    largest = max(path.stat().st_size for path in (run / "checkpoints" / "step-2").iterdir())
    try:
        with largest_file(size):
            checkpoints.write({"step": 3, "best": None}, fill(3))
    except UserError as error:
        assert size < largest
        assert "\n" not in str(error)
        assert "checkpoints/step-3: the checkpoint cannot be written (" in str(error)
        assert str(error).endswith("step-2 is whole.")
        assert found(run) == {1: 1.0, 2: 2.0}
        assert sorted(os.listdir(run / "checkpoints")) == ["step-1", "step-2"]
    else:
        assert size >= largest
        assert found(run) == {2: 2.0, 3: 3.0}
    shutil.rmtree(run)


def test_damaged_and_unfinished_ones_are_named_and_never_deleted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, 1, 2, 3)
    root = tmp_path / "checkpoints"
    (root / "step-3" / "model.safetensors").write_bytes(b"torn")
    (root / "step-4.unfinished").mkdir()
    (root / "step-4.unfinished" / "model.safetensors").write_bytes(b"half")
    shutil.copytree(root / "step-1", root / "step-7")
    assert set(found(tmp_path)) == {1, 2}
    assert [message.split(" is passed over: ") for message in caplog.messages] == [
        ["checkpoints/step-3", "model.safetensors is damaged."],
        ["checkpoints/step-4.unfinished", "it was not finished."],
        ["checkpoints/step-7", "it is of step 1."],
    ]
    # The run resumes from step 2, and comes to step 3 and 4 again.
    write(tmp_path, 3, 4, 5, keep=1)
    assert set(found(tmp_path)) == {5}
    assert {path.name for path in root.iterdir()} == {
        *("step-3.damaged", "step-4.unfinished", "step-5", "step-7"),
    }
    assert (root / "step-3.damaged" / "model.safetensors").read_bytes() == b"torn"


def test_what_was_half_removed_is_removed(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    root = tmp_path / "checkpoints"
    (root / "step-1").rename(root / "step-1.pruned")
    (root / "step-1.pruned" / "manifest.json").unlink()
    assert set(found(tmp_path)) == {2}
    assert os.listdir(root) == ["step-2"]


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "executed"),)

    write(tmp_path, 1)
    for path in (tmp_path / "checkpoints" / "step-1").iterdir():
        path.write_bytes(pickle.dumps(Evil()))
    assert found(tmp_path) == {}
    assert not (tmp_path / "executed").exists()
