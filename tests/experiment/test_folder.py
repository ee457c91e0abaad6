"""A run's folder is its own, whatever begins or fails beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from bertexp.config import conf_dir
from bertexp.experiment.folder import claimed, discard


@pytest.mark.parametrize("command", ["config", "finetune"])
def test_runs_that_begin_in_the_same_second_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    written: Any = OmegaConf.to_container(OmegaConf.load(conf_dir() / f"{command}.yaml"))
    assert written["hydra"]["run"]["dir"].startswith("${unused:outputs/")
    names = []
    for _ in range(3):
        begun = OmegaConf.create({"dir": "${unused:outputs/day/second}"})
        assert not Path(begun.dir).exists(), "another folder may be chosen instead"
        Path(begun.dir).mkdir(parents=True)
        names.append(begun.dir)
    assert names == [f"outputs/day/second{end}" for end in ("", "-2", "-3")]


def test_a_run_that_fails_does_not_remove_the_folder_of_another(tmp_path: Path) -> None:
    """It has begun in the same folder, and was refused."""
    folder = tmp_path / "run"
    with claimed(folder):
        (folder / "bertexp.log").touch()
        discard(folder)
        assert (folder / "bertexp.log").exists()
    discard(folder)
    assert not folder.exists()
