"""Runs that are too different are listed; others are compared."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertexp.compare.comparison import compare
from bertexp.compare.report import show_list, unrelated
from bertexp.compare.runs import Record, evaluated, read_runs
from bertexp.validation import UserError

MakeRun = Callable[..., Record]


def leave(folder: Path, *, began: float = 0.0, step: int = 10, status: str = "finished",
          overrides: tuple[str, ...] = (), **config: Any) -> Path:  # fmt: skip
    """Write what a run leaves."""
    (folder / ".hydra").mkdir(parents=True)
    base = {
        "task": {"name": "mlm"},
        "dataset": {"name": "pydoc"},
        "model": {"name": "tiny"},
        "optimizer": {"lr": 0.1},
        "masking": {"prob": 0.15},
        "trainer": {"max_steps": 10},
    }
    summary = {"status": status, "tracker_id": f"mlm-{folder.name}-0123abcd",
               "budget": {"step": step}, "metrics": {"eval/loss": step / 4}}  # fmt: skip
    if status == "failed":
        summary["error"] = "RuntimeError: out of memory"
    lines = json.dumps({"step": step, "eval/loss": step / 4}) + "\n"
    (folder / ".hydra" / "config.yaml").write_text(json.dumps({"seed": 0, **base, **config}))
    (folder / ".hydra" / "overrides.yaml").write_text(json.dumps(list(overrides)))
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "metrics.jsonl").write_text(lines)
    os.utime(folder / ".hydra" / "config.yaml", (began, began))
    return folder


@pytest.fixture
def day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four different runs and a sweep of a day, in the folder one works in."""
    monkeypatch.chdir(tmp_path)
    folder = Path("outputs/day")
    other = {"optimizer": {"lr": 1}, "masking": {"prob": 0.4}, "model": {"name": "mini"}}
    typed = ("model=mini", "optimizer.lr=1", "tracker.mode=disabled", "masking.prob=0.4")
    leave(folder / "first", began=4e8, step=1, trainer={"max_steps": 1})
    leave(folder / "other", began=3e8, overrides=typed, **other)
    leave(folder / "failed", began=2e8, status="failed", task={"name": "nsp"}, name="pairs")
    for seed in range(3):
        for rate in (0.15, 0.4):
            job = folder / "swept" / f"{rate}-{seed}"
            leave(job, began=1e8 + seed, seed=seed, masking={"prob": rate})
    (folder / "swept" / "multirun.yaml").touch()
    for name in ("compare.html", "compare.csv", ".lock", "metric.png"):
        (folder / "swept" / name).touch()
    (folder / "swept" / "notes").mkdir()
    return folder


def test_a_days_runs_are_listed_with_what_they_are(
    day: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = read_runs([day])
    why = unrelated(runs)
    assert why and why.startswith("they differ in task.name, model.name, ")
    assert why.endswith(" and 1 more")
    show_list(runs, None, why)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["swept", "1973-03-03", lines[0].split()[2], "6", "finished",
                                "eval/loss", "2.500"]  # fmt: skip
    assert [line.strip() for line in lines[1:3]] == [
        "6 runs, 3 seeds: masking.prob=0.15,0.4",
        "outputs/day/swept",
    ]
    text = "\n".join(lines)
    assert text.index("pairs") < text.index("mlm-other") < text.index("mlm-first")
    assert "  RuntimeError: out of memory\n  nsp, pydoc, tiny; 10 steps\n  outputs/day/fai" in text
    assert "  mlm, pydoc, mini; 10 steps: optimizer.lr=1 masking.prob=0.4\n" in text
    assert "eval/loss 0.250" in text
    assert "--by KEY" in text and "better" not in text


def test_a_sweep_of_seeds_alone_has_no_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave(tmp_path / "alone")
    for seed in range(2):
        leave(tmp_path / "seeds" / f"seed={seed}", seed=seed)
    (tmp_path / "seeds" / "multirun.yaml").touch()
    show_list(read_runs([tmp_path]), None, None)
    assert "  2 runs, 2 seeds\n" in capsys.readouterr().out


def test_a_list_fits_into_80_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All but the paths, which are to be copied."""
    monkeypatch.chdir(tmp_path)
    typed = [f"masking.replace.{part}=0.333333" for part in ("mask", "random", "keep")]
    long = {"name": "a-name-[in-brackets]-of-many-characters", "masking": {"prob": 0.333333}}
    for name in "ab":
        leave(tmp_path / "outputs" / (60 * name), overrides=(*typed,), **long)
    show_list(read_runs(["outputs"]), "eval/loss", None)
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 or line.startswith("  outputs/") for line in lines)
    assert all(line.startswith(("a-name-[in-brackets]", "  ")) for line in lines)
    assert all(setting in "\n".join(lines) for setting in typed)


def test_a_glob_passes_over_what_is_no_run(day: Path) -> None:
    shell = [str(path) for path in sorted((day / "swept").iterdir())]
    runs = read_runs(shell)
    assert len(runs) == 6 and unrelated(runs) is None
    assert len(read_runs([f"{day}/*/*"])) == 6
    with pytest.raises(UserError, match=r"swept/notes, .*compare\.csv: no run is there"):
        read_runs([day / "swept" / "notes", day / "swept" / "compare.csv"])


def test_runs_that_are_alike_enough_are_compared(make_run: MakeRun) -> None:
    def runs(*steps: int, **keys: Any) -> list[Record]:
        return [
            make_run([2.0] * n, every=1, **{key: place for key in keys})
            for place, n in enumerate(steps)
        ]

    assert unrelated(runs(4, 4, 4, masking__prob=1, optimizer__lr=1)) is None
    assert unrelated(runs(4, 8, 16, masking__prob=1)) is None
    assert unrelated(runs(1, 8, 8, masking__prob=1)) == "they trained for 1 to 8 steps"
    many = {f"masking.k{n}": n for n in range(5)}
    assert unrelated(runs(4, 4, 4, **many)) is not None
    assert unrelated(runs(1, 8, **many)) is None


def test_what_evaluate_saved_is_compared(day: Path) -> None:
    runs = read_runs([day / "swept"])
    for run in runs[1:]:
        (run.folder / "evaluations").mkdir()
        record = {
            "metrics": {"eval/loss": 1.0 + run.config["masking.prob"] + (run.seed or 0) / 100},
            "fingerprints": {"bank": {"mlm": "other"}},
        }
        (run.folder / "evaluations" / "rare.json").write_text(json.dumps(record))
    found = compare(evaluated(runs, "rare"), evaluation="rare")
    assert found.budget is None
    assert [run.value for run in found.runs[1:]] == pytest.approx([1.16, 1.17, 1.4, 1.41, 1.42])
    assert found.runs[0].error == "has no eval/loss in evaluations/rare.json"
    assert (found.differences[0].seeds, found.differences[0].mean) == (2, pytest.approx(0.25))
    with pytest.raises(UserError, match=r"--evaluation rar: no run has it\. Did you mean 'rare'"):
        evaluated(runs, "rar")
    with pytest.raises(UserError, match="There is none"):
        evaluated(runs[:1], "rare")
