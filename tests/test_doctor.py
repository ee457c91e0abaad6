"""The doctor: one screen, whatever this machine has, and a cache that is emptied."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bertexp import doctor

SMALL = ("+size=smoke", "dataset=synthetic", "tokenizer.vocab_size=256", "tracker=none")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "no API key"),
        ({"WANDB_API_KEY": "0123456789" * 4}, "a key for https://"),
        ({"WANDB_MODE": "disabled"}, "disabled, by your own setting"),
    ],
)
def test_its_report_is_one_screen(
    command: Callable[..., Any], environment: dict[str, str], expected: str
) -> None:
    done = command(module="bertexp.doctor", OMP_NUM_THREADS="1", **environment)
    assert done.code == 0, done.output + done.errors
    assert len(done.lines) < 24
    assert max(map(len, done.lines)) <= 80
    heads = [line.split()[0] for line in done.output.splitlines() if line[0] != " "]
    assert heads == ["bertexp", "packages", "extras", "device", "W&B", "cache", "slow"]
    assert expected in done.output
    assert str(done.cache)[:60] in done.output.replace("\n" + " " * 10, "")


def test_little_space_is_that_of_the_caches_disk_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = next(p for p in (Path("/dev/shm"), Path("/proc")) if p.is_dir())
    assert cache.stat().st_dev != tmp_path.stat().st_dev, "two disks"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BERTEXP_CACHE", str(cache / "not/there/yet"))
    asked: list[Path] = []

    def usage(folder: Path) -> Any:
        asked.append(folder)
        return SimpleNamespace(free=10**9)

    monkeypatch.setattr("shutil.disk_usage", usage)
    found = [*doctor._little_space()]
    assert {*asked} == {tmp_path, cache}
    assert {*found} == {f"1 GB left on the disk of {folder}" for folder in asked}


def test_what_removes_is_written_in_full(command: Callable[..., Any]) -> None:
    done = command("--clear", module="bertexp.doctor")
    assert (done.code, done.lines) == (1, ["error: unrecognized arguments: --clear."])


def test_the_cache_is_emptied_and_a_run_fills_it_again(command: Callable[..., Any]) -> None:
    first = command(*SMALL, "trainer.dry_run=true")
    assert first.code == 0, first.output + first.errors
    mine = first.cache / "corpus" / "mine.txt"
    mine.write_text("not the cache's")
    kinds = {path.name for path in first.cache.iterdir() if any(path.iterdir())}
    done = command("--clear-cache", module="bertexp.doctor", folder=first.folder)
    *removed, total = done.output.splitlines()
    assert {line.partition(":")[0] for line in removed} == kinds
    assert total.endswith(f"from {first.cache}")
    assert [*first.cache.rglob("*")] == [first.cache / "corpus", mine]
    assert command(*SMALL, "trainer.dry_run=true", folder=first.folder).code == 0
    assert kinds <= {path.name for path in first.cache.iterdir()}
