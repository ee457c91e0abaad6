"""Runs are found below any path and read in whatever state they are."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from bertexp.compare.runs import read_run, read_runs
from bertexp.experiment.folder import claimed
from bertexp.validation import UserError


def leave(folder: Path, summary: dict[str, Any] | None = None, lines: str = "") -> Path:
    """Write what a run leaves."""
    (folder / ".hydra").mkdir(parents=True)
    config = "seed: 3\nname: null\noptimizer:\n  lr: 1e-3\n  betas: [0.9, 0.98]\nhub: {}\n"
    (folder / ".hydra" / "config.yaml").write_text(config)
    hydra = f"hydra:\n  job:\n    config_name: {'bench' if 'bench' in folder.name else 'config'}\n"
    (folder / ".hydra" / "hydra.yaml").write_text(hydra)
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))
    if lines:
        (folder / "metrics.jsonl").write_text(lines)
    return folder


def test_runs_are_found_below_folders_and_by_patterns_once_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("outputs/sweeps/a/x", "outputs/sweeps/a/y", "outputs/sweeps/b/x", "outputs/one"):
        leave(Path(name), {"status": "finished"})
        leave(Path(name) / "model", {})
    leave(Path("outputs/bench/now-bench"))
    leave(Path("outputs/started"))
    leave(Path("outputs/just-made"))
    Path("outputs/just-made/.hydra/hydra.yaml").write_text("")
    # The cache has summaries too.
    Path("outputs/corpus").mkdir()
    Path("outputs/corpus/summary.json").write_text("{}")
    found = read_runs(["outputs/sweeps/*", "outputs", tmp_path / "outputs" / "one"])
    assert [str(run.folder) for run in found] == [
        *("outputs/sweeps/a/x", "outputs/sweeps/a/y", "outputs/sweeps/b/x"),
        *("outputs/one", "outputs/started"),
    ]


def test_a_configuration_is_flat_and_its_numbers_are_numbers(tmp_path: Path) -> None:
    run = read_run(leave(tmp_path / "run", {"tracker_id": "mlm-p0.40-s1-3fa9c1d2"}))
    assert run.config == {
        **{"seed": 3, "name": None, "hub": {}},
        **{"optimizer.lr": 0.001, "optimizer.betas": [0.9, 0.98]},
    }
    assert (run.seed, run.name) == (3, "mlm-p0.40-s1")


def test_what_a_value_depends_on_is_looked_up(tmp_path: Path) -> None:
    folder = leave(tmp_path / "run", {})
    chosen = "${if:${model.pretrained},pretrained,wordpiece}"
    config = {"model": {"pretrained": None}, "tokenizer": {"name": chosen}}
    (folder / ".hydra" / "config.yaml").write_text(json.dumps(config))
    assert read_run(folder).config["tokenizer.name"] == "wordpiece"


@pytest.mark.parametrize(
    ("summary", "is_held", "status", "error"),
    [
        ({"status": "finished"}, False, "finished", None),
        ({"status": "failed", "error": "ValueError: no"}, False, "failed", "ValueError: no"),
        ({"status": "interrupted"}, False, "interrupted", None),
        ({"status": "running"}, True, "running", None),
        ({"status": "running"}, False, "killed", "its process is gone"),
        (None, True, "running", "has no summary.json yet"),
        (None, False, "killed", "its process is gone"),
    ],
)
def test_every_state_is_told(
    tmp_path: Path, summary: dict[str, Any] | None, is_held: bool, status: str, error: str | None
) -> None:
    folder = leave(tmp_path / "run", summary)
    with claimed(folder) if is_held else nullcontext():
        found = read_run(folder)
        assert (found.status, found.error) == (status, error)


def test_a_line_cut_short_is_left_out_and_others_are_not_forgiven(tmp_path: Path) -> None:
    whole = '{"step": 10, "eval/loss": 2.5}\n{"step": 20, "eval/loss": null}\n'
    run = read_run(leave(tmp_path / "cut", {"status": "running"}, whole + '{"step": 30, "ev'))
    assert [line["step"] for line in run.history] == [10, 20]
    assert run.metrics == {}  # at its last evaluation there was no number
    broken = leave(tmp_path / "broken", {}, '{"step": 10\n' + whole)
    with pytest.raises(UserError, match=r"broken/metrics\.jsonl: line 1 is damaged; remove it"):
        read_run(broken)
    (broken / "summary.json").write_text("{")
    with pytest.raises(UserError, match=r"broken/summary\.json: is damaged; remove it"):
        read_run(broken)


def test_metrics_are_those_of_the_end_or_else_the_latest(tmp_path: Path) -> None:
    lines = '{"step": 10, "eval/loss": 2.5, "train/tokens": 7}\n{"step": 20, "train/loss": 2.0}\n'
    running = read_run(leave(tmp_path / "running", {"status": "running"}, lines))
    assert running.metrics == {"eval/loss": 2.5}
    ended = {"status": "finished", "metrics": {"eval/loss": 2.0, "eval/perplexity": None}}
    assert read_run(leave(tmp_path / "ended", ended, lines)).metrics == {"eval/loss": 2.0}
