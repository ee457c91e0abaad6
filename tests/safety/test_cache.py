"""What was prepared and is damaged since is recognised, and prepared again."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertexp import locks
from bertexp.arrays import save_array
from bertexp.data.cache import cached, clear
from bertexp.validation import UserError

TEXT = "\n\n".join(f"Sentence {n} of a small text. It has {n} words, or so." for n in range(30))


def build(folder: Path) -> None:
    (folder / "a.bin").write_bytes(b"0123456789")
    (folder / "b.bin").write_bytes(b"")


@pytest.fixture
def artefact(empty_cache: Path) -> Path:
    return cached("things", {"of": 1}, build)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut off": lambda folder: os.truncate(folder / "a.bin", 3),
    "emptied": lambda folder: os.truncate(folder / "a.bin", 0),
    "longer": lambda folder: (folder / "b.bin").write_bytes(b"1"),
    "a file lost": lambda folder: (folder / "b.bin").unlink(),
    "a file too many": lambda folder: (folder / "c.bin").touch(),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "a cut manifest": lambda folder: os.truncate(folder / "manifest.json", 9),
    "an empty manifest": lambda folder: os.truncate(folder / "manifest.json", 0),
    "another manifest": lambda folder: (folder / "manifest.json").write_text("[1]"),
    "all files lost": lambda folder: [path.unlink() for path in folder.iterdir()],
    "a file in its place": lambda folder: (shutil.rmtree(folder), folder.touch()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_built_again(
    artefact: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    DAMAGES[damage](artefact)
    assert cached("things", {"of": 1}, build) == artefact
    assert (artefact / "a.bin").read_bytes() == b"0123456789"
    (record,) = caplog.records
    assert record.getMessage() == f"{artefact}: is damaged, or cut off; it is built again."
    assert [path.name for path in artefact.parent.iterdir()] == [artefact.name]


def test_what_is_whole_is_not_built_again(artefact: Path) -> None:
    def fail(folder: Path) -> None:
        raise AssertionError("built again")

    assert cached("things", {"of": 1}, fail) == artefact


def test_a_failure_leaves_nothing(empty_cache: Path) -> None:
    def fail(folder: Path) -> None:
        build(folder)
        raise UserError("no")

    with pytest.raises(UserError):
        cached("things", {"of": 1}, fail)
    assert list((empty_cache / "things").iterdir()) == []


def test_others_read_what_one_has_prepared(empty_cache: Path) -> None:
    before = os.umask(0o022)
    folder = cached("things", {"of": 1}, build)
    os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (folder, folder / "a.bin")]
    assert modes == [0o755, 0o644]


def test_a_full_disk_is_the_caches(empty_cache: Path) -> None:
    def fill(folder: Path) -> None:
        # Arrow's words.
        raise OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28] No space")

    told = rf"^{empty_cache}: .* \(No space left on device\); .* with BERTEXP_CACHE\.$"
    with pytest.raises(UserError, match=told):
        cached("things", {"of": 1}, fill)


@pytest.mark.parametrize("count", [0, 1, 5000, 300_000])
def test_an_array_is_written_as_numpy_writes_it(tmp_path: Path, count: int) -> None:
    array = np.arange(count, dtype=np.int64).reshape(-1, 1)[::-1]
    save_array(tmp_path / "ours.npy", array)
    np.save(tmp_path / "theirs.npy", np.ascontiguousarray(array))
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
@pytest.mark.parametrize("count", [1, 5000])
def test_a_full_disk_is_noticed_however_little_is_written(empty_cache: Path, count: int) -> None:
    """``np.save`` loses up to some kilobytes without an error."""

    def fill(folder: Path) -> None:
        (folder / "a.npy").symlink_to("/dev/full")
        save_array(folder / "a.npy", np.zeros(count, np.uint8))

    with pytest.raises(UserError, match="No space left on device"):
        cached("things", {"of": 1}, fill)


def test_every_file_of_a_prepared_corpus_may_be_cut_off(
    experiment_config: Callable[..., Any], empty_cache: Path, tmp_path: Path
) -> None:
    from bertexp.experiment.prepare import prepare_data

    (tmp_path / "text.txt").write_text(TEXT)
    config = experiment_config(
        "dataset=text", f"dataset.files=[{tmp_path}/text.txt]", "tokenizer.vocab_size=128",
        "evaluation.probes=[]",
        "masking=pmi", "masking.pmi.min_count=5", "evaluation.max_examples=8",
    )  # fmt: skip

    def digests() -> tuple[str, ...]:
        data = prepare_data(config)
        return (
            data.corpus.fingerprint,
            data.tokenizer.fingerprint,
            *data.bank.reference.fingerprints.values(),
        )

    expected = digests()
    files = {path: path.read_bytes() for path in empty_cache.rglob("*") if path.is_file()}
    assert {path.parents[1].name for path in files} == {
        *("corpus", "digests", "tokenizer", "tokens", "collocations", "spelling"),
    }
    for path, content in files.items():
        os.truncate(path, len(content) // 2)
        assert digests() == expected, path
        assert path.stat().st_size == len(content), path


def test_it_is_emptied_but_for_what_is_being_built(artefact: Path, empty_cache: Path) -> None:
    other = cached("things", {"of": 2}, build)
    other.with_name(f".{other.name}-123").mkdir()
    with locks.acquire(artefact.with_name(f".{artefact.name}.lock"), 0):
        sizes = sum(path.stat().st_size for path in other.iterdir())
        assert clear() == {"things": sizes}
        assert artefact.is_dir() and not other.exists()
    assert clear().keys() == {"things"}
    assert [*empty_cache.iterdir()] == []
