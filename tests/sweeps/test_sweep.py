"""Sweeps by the command that users type: failures, resuming, names, lists that go together."""

from __future__ import annotations

import os
import re
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forkserver import ForkServer

from bertexp.experiment.folder import claimed
from bertexp.experiment.invocation import SweepJob
from bertexp.sweeps.stored import folder_name, only_sweep

MIXED = ("model.hidden_size=16,1048576,32", "sweep=mixed")


@pytest.fixture(scope="module")
def mixed(sweep: Callable[..., Any]) -> Any:
    """Three jobs of which the second does not fit the memory."""
    return sweep(*MIXED)


def test_a_failing_job_does_not_stop_the_others(mixed: Any, jobs: Any) -> None:
    assert mixed.code == 1
    assert jobs(mixed, "mixed").status() == {
        "model.hidden_size=16": "finished",
        "model.hidden_size=1048576": "failed",
        "model.hidden_size=32": "finished",
    }
    failed = "failed: outputs/sweeps/mixed/model.hidden_size=1048576: "
    (line,) = (line for line in mixed.lines if line.startswith(failed))
    reason = line.removeprefix(failed)
    assert reason.startswith("model.hidden_size=1048576, model.num_hidden_layers=2: must be less;")
    assert mixed.lines.count(f"error: {reason}") == 1
    assert mixed.errors.startswith("error: 1 of 3 jobs failed; the same command with sweep=mixed")
    assert f"(the first: {reason.rstrip('.')})." in mixed.errors
    assert "Traceback" not in mixed.output + mixed.errors


def test_a_wrong_value_of_one_job_is_found_before_any_runs(sweep: Callable[..., Any]) -> None:
    done = sweep("masking.prob=0.1,7", "hydra.job.name=mine", "sweep=wrong")
    assert done.code == 1
    assert done.lines == [
        "error: masking.prob=7: must be a number above 0 and at most 1, or a distribution such as "
        "{distribution: uniform, low: 0, high: 1}."
    ]
    assert not (done.folder / "outputs/sweeps/wrong").exists()


def test_a_sweep_prints_how_many_jobs_and_how_long(mixed: Any) -> None:
    # The first to need a corpus says that it prepares one.
    lines = [line for line in mixed.output.splitlines() if not line.startswith("Preparing")]
    assert lines[:2] == ["sweep mixed: 3 jobs", "job 1/3 · model.hidden_size=16"]
    assert re.fullmatch(r"job 1/3 · about \d:\d\d of training, \d:\d\d for all 3 jobs", lines[2])
    assert re.fullmatch(r"job 1/3 · eval/loss \d\.\d{3}", lines[3])
    assert re.fullmatch(r"job 2/3 · model\.hidden_size=1048576 · about \d:\d\d left", lines[4])
    assert re.fullmatch(r"job 3/3 · model\.hidden_size=32 · about \d:\d\d left", lines[6])
    # Then the comparison: the jobs' own reports are in their logs.
    assert re.fullmatch(r"job 3/3 · eval/loss \d\.\d{3}", lines[7])
    assert not any(line.startswith("job ") for line in lines[8:])
    assert "outputs/sweeps/mixed/compare.html" in lines
    log = (mixed.folder / "outputs/sweeps/mixed/model.hidden_size=16/bertexp.log").read_text()
    assert "yardstick" in log


def test_the_same_command_leaves_finished_jobs_alone_and_tries_failed_ones_again(
    mixed: Any, sweep: Callable[..., Any], jobs: Any
) -> None:
    found = jobs(mixed, "mixed")
    finished = ("model.hidden_size=16", "model.hidden_size=32")
    before = {name: found.files(name) for name in finished}
    again = sweep(*MIXED)
    assert again.code == 1
    assert re.fullmatch(
        r"sweep mixed: 3 jobs · 2 done already · about \d:\d\d", again.output.splitlines()[0]
    )
    assert {name: found.files(name) for name in finished} == before
    assert "job 3/3 · model.hidden_size=1048576 " in again.output
    assert "job 1/3" not in again.output


def test_a_wider_sweep_of_the_same_name_finds_its_jobs_by_their_configuration(
    mixed: Any, sweep: Callable[..., Any], jobs: Any
) -> None:
    before = jobs(mixed, "mixed").files("model.hidden_size=16")
    # The seed was 0 before, though nothing set it; what does not change a result may differ.
    wider = sweep("model.hidden_size=16,32", "seed=0,1", "sweep=mixed", "trainer.log_every=3")
    assert wider.code == 0, wider.errors
    found = jobs(wider, "mixed")
    assert found.names - {"model.hidden_size=1048576"} == {
        *("model.hidden_size=16", "model.hidden_size=32"),
        *("model.hidden_size=16,seed=1", "model.hidden_size=32,seed=1"),
    }
    assert found.files("model.hidden_size=16") == before


def test_a_finished_job_of_another_configuration_is_not_taken_for_this_one(
    mixed: Any, sweep: Callable[..., Any], jobs: Any
) -> None:
    found = jobs(mixed, "mixed")
    before = {name: found.files(name) for name in found.names}
    changed = sweep("model.hidden_size=8,16", "sweep=mixed", "trainer.max_steps=7")
    assert changed.code == 1
    assert changed.lines == [
        "error: sweep=mixed: model.hidden_size=16 is finished, with trainer.max_steps=6 where it "
        "is 7 now; choose another sweep=..."
    ]
    assert jobs(changed, "mixed").names == found.names, "nothing is begun before all is checked"
    assert {name: found.files(name) for name in found.names} == before


def test_a_sweep_runs_once_at_a_time(mixed: Any, sweep: Callable[..., Any]) -> None:
    root = mixed.folder / "outputs/sweeps/mixed"
    error = "error: sweep=mixed: is running already, in another process"
    with only_sweep(root, "mixed"):
        second = sweep(*MIXED)
    assert second.code == 1
    assert re.fullmatch(rf"{error} \(process {os.getpid()} on \S+\)\.", second.lines[0])
    # A job that runs in a process apart has outlived its sweep.
    with claimed(root / "model.hidden_size=16"):
        second = sweep(*MIXED)
    assert second.lines == [f"{error}: outputs/sweeps/mixed/model.hidden_size=16."]


LONG = ("trainer.max_steps=50", "seed=0,1,2")


@pytest.fixture
def break_off(
    sweep: Any, forkserver: ForkServer, clean_environment: dict[str, str]
) -> Callable[..., tuple[int, str]]:
    """Return a function that starts a sweep and sends it a signal once a job has logged more.

    It returns exit code and errors.
    """
    folder: Path = sweep.keywords["folder"]

    def begin(at: str, how: signal.Signals, *arguments: str) -> tuple[int, str]:
        metrics = folder / "outputs/sweeps/broken" / at / "metrics.jsonl"
        logged = metrics.stat().st_size if metrics.exists() else 0
        environment = clean_environment | {"BERTEXP_CACHE": str(folder / "cache")}
        process = forkserver.start(*arguments, folder=folder, environment=environment)
        process.until(lambda: metrics.exists() and metrics.stat().st_size > logged)
        os.kill(process.pid, how)
        return process.end(60), process.errors

    return begin


@pytest.mark.parametrize(("is_resumed", "together"), [(False, ", 0:30 for all 3 jobs"), (True, "")])
def test_the_rest_of_one_job_is_no_estimate_for_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], is_resumed: bool, together: str
) -> None:
    SweepJob(tmp_path / "seed=0", 1, 3, 1).planned(10, is_resumed=is_resumed)
    assert capsys.readouterr().out == f"job 1/3 · about 0:10 of training{together}\n"


def test_a_sweep_of_one_job_says_why(sweep: Callable[..., Any]) -> None:
    done = sweep("trainer.dry_run=true", "sweep=single")
    assert done.lines[0] == "sweep single: 1 job · no key has several values"


def test_a_sweep_that_was_broken_off_twice_ends_as_one_that_was_not(
    sweep: Callable[..., Any],
    small: tuple[str, ...],
    jobs: Any,
    break_off: Callable[..., tuple[int, str]],
) -> None:
    begun = ("-m", "bertexp", "-m", *small, *LONG, "sweep=broken")
    code, errors = break_off("seed=1", signal.SIGINT, *begun)
    assert code == 130
    assert "Traceback" not in errors
    (command,) = re.findall(r"^Stopped\. To resume: python (.*)$", errors, re.MULTILINE)

    whole = sweep(*LONG, "sweep=whole")
    assert whole.code == 0, whole.errors
    found = jobs(whole, "broken")
    assert found.status() == {"seed=0": "finished", "seed=1": "interrupted"}
    before = found.files("seed=0")

    code, _ = break_off("seed=1", signal.SIGKILL, *shlex.split(command))
    assert code == -signal.SIGKILL
    assert found.summary("seed=1")["status"] == "running"

    last = sweep(*LONG, "sweep=broken")
    assert last.code == 0, last.errors
    assert "3 jobs · 1 done already" in last.output
    assert found.files("seed=0") == before
    found, unbroken = jobs(last, "broken"), jobs(whole, "whole")
    assert found.names == unbroken.names
    for name in found.names:
        assert found.records(name) == unbroken.records(name)
        assert found.summary(name)["metrics"] == unbroken.summary(name)["metrics"]
        assert found.summary(name)["status"] == "finished"


def test_a_study_in_a_file_sweeps_by_itself_over_lists_that_go_together(
    sweep: Callable[..., Any], small: tuple[str, ...], command: Callable[..., Any], jobs: Any
) -> None:
    folder = sweep.keywords["folder"]  # type: ignore[attr-defined]
    (folder / "mine" / "experiment").mkdir(parents=True)
    (folder / "mine" / "experiment" / "pairs.yaml").write_text("""\
# @package _global_
sweep: pairs
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      masking: bert,span
      optimizer.lr: 1e-3,2e-3
      seed: 0,1
    together: [masking, optimizer.lr]
""")
    done = command(
        *("--config-dir", "mine", "+experiment=pairs", *small, "seed=3", "trainer.max_steps=2"),
        folder=folder,
    )
    assert done.code == 0, done.errors
    found = jobs(done, "pairs")
    # The command line's seed comes before the file's.
    assert found.status() == {
        "masking=bert,optimizer.lr=0.001": "finished",
        "masking=span,optimizer.lr=0.002": "finished",
    }
    identities = {found.summary(name)["tracker_id"].rpartition("-")[0] for name in found.names}
    assert identities == {"mlm-lr0.001-p0.15-s3", "mlm-lr0.002-span-p0.15-s3"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ("seed=0,1", "masking.prob=0.1,0.2,0.3", "hydra.sweeper.together=[seed,masking.prob]"),
            "hydra.sweeper.together: needs as many values of each; seed has 2, masking.prob has 3.",
        ),
        (
            ("seed=0,1", "hydra.sweeper.together=[seed,masking.prob]"),
            "hydra.sweeper.together: masking.prob is not swept over.",
        ),
        (
            ("masking.porb=0.1,0.2",),
            "masking.porb: no such key. Did you mean 'masking.prob'?",
        ),
        (("model=tiny,tinny",), "model=tinny: must be one of base, bert_base_uncased, large, "),
        (("seed=",), "seed=: must be an integer."),
        (("seed=,",), "Error parsing override 'seed=,'"),
        (("seed=choice()",), "seed=choice(): must be an integer."),
    ],
)
def test_a_mistake_is_one_line(
    sweep: Callable[..., Any], arguments: tuple[str, ...], line: str
) -> None:
    done = sweep(*arguments, "sweep=mistake")
    assert done.code == 1
    assert any(found.startswith(f"error: {line}") for found in done.lines), done.lines
    assert "Traceback" not in done.output + done.errors
    assert not [*(done.folder / "outputs/sweeps").glob("mistake/*/metrics.jsonl")]


def test_folders_of_jobs_are_their_own_and_safe() -> None:
    assert folder_name("masking.prob=0.4,seed=1") == "masking.prob=0.4,seed=1"
    slashes = [folder_name(f"dataset.files=[{path}]") for path in ("a/b", "a-b", "a//b")]
    long = [folder_name(f"name={'x' * 400}{end}") for end in "ab"]
    names = [*slashes, *long]
    assert len(set(names)) == len(names)
    assert all(os.sep not in name and len(name) <= 255 for name in names)
