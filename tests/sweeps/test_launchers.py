"""Two jobs at a time, and Optuna's search."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forkserver import ForkServer, Process
from omegaconf import OmegaConf


def test_two_jobs_at_a_time(sweep: Callable[..., Any], jobs: Any, leet: Callable[..., str]) -> None:
    done = sweep(
        *("model.hidden_size=16,1048576,32", "sweep=parallel", "hydra/launcher=joblib"),
        *("hydra.launcher.n_jobs=2", "tracker=wandb", "tracker.mode=offline"),
    )
    assert done.code == 1
    found = jobs(done, "parallel")
    assert sorted(found.status().items()) == [
        ("model.hidden_size=1048576", "failed"),
        ("model.hidden_size=16", "finished"),
        ("model.hidden_size=32", "finished"),
    ]
    assert done.errors.count("1 of 3 jobs failed") == 1
    assert "failed: outputs/sweeps/parallel/model.hidden_size=1048576: model.hidden" in done.output
    assert "step " not in done.output + done.errors, "progress of two jobs at a time"
    # The second one of these begins with the weights of the first, in the same process.
    in_turn = jobs(sweep("model.hidden_size=16,32", "sweep=in-turn"), "in-turn")
    for name in in_turn.names:
        assert in_turn.records(name) == found.records(name)
    times = [
        (
            (found.root / name / ".hydra/config.yaml").stat().st_mtime,
            (found.root / name / "summary.json"),
        )
        for name in ("model.hidden_size=16", "model.hidden_size=1048576")
    ]
    began, ended = zip(*((start, end.stat().st_mtime) for start, end in times), strict=True)
    assert began[1] < ended[0], "one began when the other had ended"

    files = [*(done.folder / "outputs/wandb").glob("offline-run-*-mlm-*/*.wandb")]
    assert len(files) == 3
    for file in files:
        records = map(json.loads, leet(file).splitlines())
        (run,) = (record["run"] for record in records if "run" in record)
        assert run["run_group"] == "parallel"


def test_jobs_that_are_added_have_as_many_gpus_as_those_before(sweep: Callable[..., Any]) -> None:
    first = sweep("masking.prob=0.1", "sweep=added")
    assert first.code == 0, first.errors
    parallel = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    names = {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}
    more = sweep("masking.prob=0.1,0.2", "sweep=added", *parallel, **names)
    assert more.code == 0, more.errors
    job = more.folder / "outputs/sweeps/added/masking.prob=0.2"
    assert OmegaConf.load(job / ".hydra/hydra.yaml").hydra.launcher.n_jobs == 2
    assert [path.name for path in job.parent.glob(".gpus-*")] == [".gpus-0"]


SHARES = """
import os, signal
from pathlib import Path
from bertexp.experiment.invocation import take_gpus
take_gpus(Path("."), 2)
take_gpus(Path("."), 2)
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
signal.pause()
"""


def test_jobs_at_the_same_time_have_gpus_of_their_own(
    forkserver: ForkServer, clean_environment: dict[str, str], tmp_path: Path
) -> None:
    environment = clean_environment | {"CUDA_VISIBLE_DEVICES": "4,5,6"}

    def job() -> Process:
        return forkserver.start("-c", SHARES, folder=tmp_path, environment=environment)

    def taken(process: Process) -> str:
        process.until(lambda: process.output.endswith("\n"))
        return process.output.strip()

    def end(process: Process) -> None:
        os.kill(process.pid, signal.SIGKILL)
        process.end()

    first, second = job(), job()
    found = taken(first)
    assert sorted([found, taken(second)]) == ["4,6", "5"]
    end(first)
    third = job()
    assert taken(third) == found, "what the first one had"
    for process in (second, third):
        end(process)


def test_a_job_that_its_scheduler_stops_is_queued_again_and_resumed(
    small: tuple[str, ...],
    forkserver: ForkServer,
    clean_environment: dict[str, str],
    tmp_path: Path,
) -> None:
    process = forkserver.start(
        *("-m", "bertexp", "-m", *small, "hydra/launcher=submitit_local"),
        *("sweep=queued", "trainer.max_steps=90", "trainer.log_every=1"),
        folder=tmp_path,
        environment=clean_environment | {"BERTEXP_CACHE": str(tmp_path / "cache")},
    )
    root = tmp_path / "outputs" / "sweeps" / "queued"
    process.until(lambda: any(root.glob("*/metrics.jsonl")))
    (job,) = (path.parent for path in root.glob("*/metrics.jsonl"))
    holder = (job / ".lock").read_text().split()
    # What Slurm sends ahead of preemption, and before the time is up.
    os.kill(int(holder[1]), signal.SIGUSR2)
    assert process.end(170) == 0, process.output + process.errors
    assert json.loads((job / "summary.json").read_text())["status"] == "finished"
    steps = [json.loads(line) for line in (job / "metrics.jsonl").open()]
    trained = [line["step"] for line in steps if "train/loss" in line]
    assert trained == list(range(1, 91)), "each step once"
    errors = "".join(path.read_text() for path in (root / ".submitit").rglob("*.err"))
    assert "SIGUSR2: finishing the step" in errors, "it was stopped"


def test_a_search_survives_a_failure_and_is_resumed(sweep: Callable[..., Any], jobs: Any) -> None:
    # A list and a null are what Optuna's own plugin hands on wrongly.
    search = (
        *("hydra/sweeper=optuna", "masking.prob=interval(0.5,1.2)", "sweep=search"),
        *("evaluation.mask_probs=[0.15]", "evaluation.every=null"),
    )
    first = sweep(*search, "hydra.sweeper.n_trials=3")
    found = jobs(first, "search")
    assert len(found.names) == 3
    status = found.status()
    failed = [name for name in status if status[name] == "failed"]
    assert first.code == bool(failed)
    assert failed == [name for name in status if float(name.partition("=")[2]) >= 1]
    assert 0 < len(failed) < 3, "the seed draws some of either"

    finished = status.keys() - {*failed}
    losses = {name: found.summary(name)["metrics"]["eval/loss"] for name in finished}
    best = min(losses, key=lambda name: losses[name])
    assert f"lowest eval/loss {losses[best]:.3f}: {best}" in first.lines

    before = {name: found.files(name) for name in finished}
    more = sweep(*search, "hydra.sweeper.n_trials=4")
    found = jobs(more, "search")
    assert len(found.names) == 4
    assert {name: found.files(name) for name in finished} == before


def test_a_search_in_which_all_fail_says_why(sweep: Callable[..., Any]) -> None:
    done = sweep(
        *("hydra/sweeper=optuna", "optimizer.lr=-1,-2", "sweep=lost"), "hydra.sweeper.n_trials=1"
    )
    assert done.code == 1
    assert "optimizer.lr=-1.0: must be above 0, or null" in done.output.replace("-2", "-1")
    assert "1 of 1 jobs failed" in done.errors
    assert "Traceback" not in done.output + done.errors


@pytest.mark.parametrize(
    ("option", "package"),
    [
        ("hydra/launcher=joblib", "hydra_plugins.hydra_joblib_launcher"),
        ("hydra/launcher=submitit_slurm", "hydra_plugins.hydra_submitit_launcher"),
        ("hydra/sweeper=optuna", "optuna"),
    ],
)
def test_a_missing_package_is_named(
    sweep: Callable[..., Any],
    clean_environment: dict[str, str],
    tmp_path: Path,
    option: str,
    package: str,
) -> None:
    # What Python does for a package that is not there.
    code = f"import sys\nsys.modules['{package}'] = None\n"
    (tmp_path / "sitecustomize.py").write_text(code)
    path = f"{tmp_path}:{clean_environment['PYTHONPATH']}"
    done = sweep("seed=0,1", option, "sweep=missing", cold=True, PYTHONPATH=path)
    extra = option.partition("=")[2].replace("submitit_", "")
    line = f"error: {option}: the package is missing, pip install 'bertexp[{extra}]'."
    assert (done.code, done.lines) == (1, [line])
