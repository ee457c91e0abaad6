"""Runs that are stopped, killed, refused or full up to the brim: nothing is lost."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from folders import rows, summary
from forkserver import ForkServer, Process
from omegaconf import OmegaConf
from soak import differences, outcome

import bertexp
from bertexp.config import Config
from bertexp.training.config import TrainerConfig

SMALL = (
    *("dataset=synthetic", "dataset.synthetic.documents=60", "tokenizer.vocab_size=256"),
    *("model.hidden_size=16", "model.intermediate_size=16", "model.dropout=0.1"),
    *("trainer.max_steps=60", "trainer.batch_size=4", "trainer.log_every=7", "hardware.threads=1"),
    "evaluation.probes=[]",
    *("evaluation.every=25", "evaluation.max_examples=16", "evaluation.pseudo_perplexity=2"),
)


def errors(done: Any) -> list[str]:
    assert "Traceback" not in done.output + done.errors, done.output + done.errors
    return [line for line in done.lines if line.startswith("error: ")]


def contents(run: Path) -> dict[str, bytes]:
    """Return every file of a run but what a refusal adds to."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and path.name not in ("bertexp.log", ".lock")
    }


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resume")


@pytest.fixture(scope="module")
def started(
    work: Path, forkserver: ForkServer, clean_environment: dict[str, str]
) -> Callable[..., Process]:
    """Return a function that starts ``python -m bertexp`` and does not wait for it."""

    def start(*arguments: str) -> Process:
        environment = clean_environment | {"BERTEXP_CACHE": str(work / "cache")}
        return forkserver.start(
            *("-m", "bertexp", *arguments), folder=work, environment=environment, together=True
        )

    return start


@pytest.fixture(scope="module")
def untouched(command: Callable[..., Any], work: Path) -> Path:
    """The run that nothing happens to."""
    done = command(*SMALL, "tracker=none", f"hydra.run.dir={work / 'untouched'}", folder=work)
    assert done.code == 0, done.output + done.errors
    return work / "untouched"


@pytest.fixture(scope="module")
def interrupted(started: Callable[..., Any], untouched: Path, work: Path) -> Path:
    """A run that one signal after the other stops, in a folder with signs that Hydra knows."""
    run = work / "p=0.15,seed='0'"
    quoted = str(run).replace("'", r"\'")
    begin = (*SMALL, "tracker.mode=offline", f"hydra.run.dir='{quoted}'")
    for number in (signal.SIGUSR1, signal.SIGHUP):
        process = started(*begin)
        before = len(rows(run))
        process.until(lambda before=before: len(rows(run)) >= before + 2)
        os.kill(process.pid, number)
        assert process.end() == 128 + number, process.output
        assert summary(run)["status"] == "interrupted"
        assert "Traceback" not in process.output
        assert f"{signal.Signals(number).name}: finishing the step" in process.output
        assert "saved; to resume: python -m bertexp 'trainer.resume=" in process.output
        begin = (f"trainer.resume={run}", "hardware.num_workers=1")
    return run


def test_a_run_that_signals_stopped_ends_as_if_untouched(
    command: Callable[..., Any],
    leet: Callable[..., str],
    interrupted: Path,
    untouched: Path,
    work: Path,
) -> None:
    identity = summary(interrupted)["tracker_id"]
    before = json.loads(
        (max(interrupted.glob("checkpoints/*"), key=os.path.getmtime) / "progress.json").read_text()
    )
    done = command(f"trainer.resume={interrupted}", folder=work)
    assert done.code == 0, done.output + done.errors
    expected = outcome(untouched)
    # Those that signals left at other steps are gone or not.
    del expected["checkpoints"]
    assert differences(interrupted, expected, done.code) == []
    found = summary(interrupted)
    assert found["tracker_id"] == identity
    tracked = sorted((work / "outputs" / "wandb").glob(f"offline-run-*-{identity}/*.wandb"))
    stopped = ['"preempting"' in leet(file) for file in tracked]
    assert stopped == [True, True, False], "W&B knows which were stopped"
    assert f"wandb sync outputs/wandb/offline-run-*-{identity}" in done.output
    assert found["seconds"]["total"] > before["seconds"]["total"]
    assert found["budget"]["seconds"] > before["state"]["seconds"]
    # The folder has it all, and no other folder was made.
    assert not list((work / "outputs").glob("20*"))
    composed = OmegaConf.load(interrupted / ".hydra" / "config.yaml")
    assert (composed.trainer.resume, composed.hardware.num_workers) == (None, 1)
    assert "tracker.mode=offline" in (interrupted / ".hydra" / "overrides.yaml").read_text()


def test_a_second_control_c_stops_at_once(started: Callable[..., Any], work: Path) -> None:
    run = work / "impatient"
    # A whole epoch is one step: of seconds.
    process = started(
        *SMALL, "tracker=none", f"hydra.run.dir={run}", "dataset.synthetic.documents=150",
        "trainer.gradient_accumulation_steps=100000", "evaluation.every=null",
        "trainer.log_every=1",
    )  # fmt: skip
    process.until(lambda: any(row["step"] == 1 for row in rows(run)))
    os.kill(process.pid, signal.SIGINT)
    process.until(lambda: "finishing the step" in process.output)
    os.kill(process.pid, signal.SIGINT)
    assert process.end() == 130, process.output
    assert not (run / "checkpoints").exists(), "it finished the step"
    assert summary(run)["status"] == "interrupted"
    assert "Traceback" not in process.output


def test_before_training_a_signal_stops_at_once(started: Callable[..., Any], work: Path) -> None:
    run = work / "early"
    slow = "dataset.synthetic.documents=40001"
    process = started(*SMALL, slow, "tracker=none", f"hydra.run.dir={run}")
    process.until(lambda: (run / ".hydra" / "config.yaml").exists())
    os.kill(process.pid, signal.SIGTERM)
    assert process.end() == 143, process.output
    assert summary(run) == {"status": "interrupted"}
    assert "Traceback" not in process.output


def test_a_signal_ends_a_whole_sweep(started: Callable[..., Any], work: Path) -> None:
    long = ("trainer.epochs=null", "trainer.max_steps=100000")
    process = started("-m", *SMALL, *long, "tracker=none", "seed=0,1", "sweep=ended")
    jobs = work / "outputs" / "sweeps" / "ended"
    process.until(lambda: any(jobs.glob("*/metrics.jsonl")))
    os.kill(process.pid, signal.SIGTERM)
    assert process.end() == 143, process.output
    assert [summary(path.parent)["status"] for path in jobs.glob("*/summary.json")] == [
        "interrupted"
    ]


# What alters the outcome is refused by name.
CHANGED = {
    ("seed=1", "optimizer.lr=1"): "optimizer.lr=1.0 (was 0.0025), seed=1 (was 0)",
    ("model=mini",): "model.name=mini (was tiny), model.hidden_size=256 (was 16)",
    ("trainer.max_steps=59",): "trainer.max_steps=59 (was 60)",
    ("trainer.max_tokens=9",): "trainer.max_tokens=9 (was None)",
    ("phases=[{share: 0.5, task: nsp}, {share: 0.5}]",): (
        "phases=[{share:0.5,task:nsp},{share:0.5}] (was [])"
    ),
    ("hardware.precision=bf16",): "hardware.precision=bf16 (was auto)",
    ("trainer.max_stepz=59",): "trainer.max_stepz: no such key.",
    ("tokenizer.path=${modle.name}",): "modle.name",
}


@pytest.mark.parametrize("arguments", CHANGED)
def test_a_run_is_not_resumed_as_another(untouched: Path, arguments: tuple[str, ...]) -> None:
    before = contents(untouched)
    with pytest.raises(bertexp.UserError, match=re.escape(CHANGED[arguments])):
        bertexp.run(f"trainer.resume={untouched}", *arguments)
    assert contents(untouched) == before


FINISHED = "the run is finished; a longer budget would resume it."
FINISHED_RUN = "trainer.resume=untouched"
HAS_A_RUN = "has a run already, up to step 60; trainer.resume=auto"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([FINISHED_RUN, "tracker=tensorboard", "trainer.log_every=1"], FINISHED),
        ([*SMALL, "tracker=none", "trainer.resume=auto", "hydra.run.dir=untouched"], FINISHED),
        ([FINISHED_RUN, "masking.prob=0.4"], "masking.prob=0.4 (was 0.15)"),
        # Folders that cannot be used.
        (["trainer.resume=nowhere"], "trainer.resume=nowhere: no run's folder"),
        (["trainer.resume=cache"], "trainer.resume=cache: no run's folder"),
        (["-m", FINISHED_RUN], "in a sweep use trainer.resume=auto"),
        (["hydra.run.dir=untouched"], HAS_A_RUN),
    ],
)
def test_nothing_to_resume_is_one_line_and_changes_nothing(
    command: Callable[..., Any], untouched: Path, work: Path, arguments: list[str], message: str
) -> None:
    before, there = contents(untouched), set(work.iterdir())
    done = command(*arguments, folder=work)
    (line,) = done.lines
    assert message in line
    assert (done.code, line.startswith("error: ")) == (
        (0, False) if message == FINISHED else (1, True)
    )
    assert contents(untouched) == before
    assert set(work.iterdir()) == there


def test_a_longer_budget_continues_a_run(
    command: Callable[..., Any], untouched: Path, work: Path, tmp_path: Path
) -> None:
    run = tmp_path / "longer"
    shutil.copytree(untouched, run)
    # The folder has moved, and is the same run.
    done = command(
        f"trainer.resume={run}", "trainer.epochs=null", "trainer.max_steps=70", folder=work
    )
    assert done.code == 0, done.output + done.errors
    assert summary(run)["status"] == "finished"
    assert summary(run)["budget"]["step"] == 70
    assert summary(run)["tracker_id"] == summary(untouched)["tracker_id"]
    first, second = rows(untouched), rows(run)
    # All but the evaluation at the end of the shorter one is there, once.
    assert second[: len(first) - 1] == first[:-1]
    assert [row["step"] for row in second[len(first) - 1 :]] == [63, 70, 70]


def test_by_force_a_run_resumes_with_other_steps_or_a_budget_that_is_spent(
    command: Callable[..., Any], untouched: Path, work: Path, tmp_path: Path
) -> None:
    run = tmp_path / "forced"
    shutil.copytree(untouched, run)
    seen = summary(run)["budget"]["examples"]
    epoch = seen / summary(run)["epoch"]
    force = (f"trainer.resume={run}", "trainer.resume_force=true", "trainer.epochs=null")
    larger = command(*force, "trainer.max_steps=64", "trainer.batch_size=12", folder=work)
    assert larger.code == 0, larger.lines
    assert summary(run)["budget"]["examples"] > seen + 30
    (last,) = [row for row in rows(run) if row["step"] == 64 and "train/epoch" in row]
    assert last["train/epoch"] == summary(run)["epoch"]
    assert last["train/epoch"] == pytest.approx(summary(run)["budget"]["examples"] / epoch)
    # What was finished stays as it is; what was not ends here.
    again = command(*force, "trainer.max_steps=30", folder=work)
    assert "the run is finished; a longer budget" in again.lines[0]
    (run / "summary.json").write_text(json.dumps(summary(run) | {"status": "interrupted"}))
    spent = command(*force, "trainer.max_steps=30", "trainer.log_every=3", folder=work)
    assert spent.code == 0, spent.lines
    note = f"step 64 · resuming from {run}/checkpoints/step-64: the budget is spent"
    assert any(line.startswith(note) for line in spent.lines), spent.lines
    assert any(line.endswith("about 0:00 of training") for line in map(str.rstrip, spent.lines))
    assert "after 64 steps" in spent.output
    assert summary(run)["status"] == "finished"
    assert summary(run)["budget"]["step"] == 64


def test_a_budget_below_one_step_ends_at_a_hundred_percent(
    command: Callable[..., Any], work: Path
) -> None:
    tiny = ("trainer.epochs=null", "trainer.max_steps=null", "trainer.max_tokens=1")
    done = command(*SMALL, *tiny, "tracker=none", folder=work)
    assert done.code == 0, done.lines
    (line,) = [line for line in done.lines if line.startswith("step 1/1")]
    assert " · 100% · " in line
    assert any("tokens for trainer.max_tokens=1: the last step is" in said for said in done.lines)
    assert "after 1 step," in done.output


def test_two_at_once_are_refused(
    command: Callable[..., Any],
    forkserver: ForkServer,
    clean_environment: dict[str, str],
    untouched: Path,
    work: Path,
) -> None:
    holding = (
        "import signal; from pathlib import Path; from bertexp.experiment.folder import claimed\n"
        f"with claimed(Path({str(untouched)!r})): print('held', flush=True); signal.pause()"
    )
    holder = forkserver.start("-c", holding, folder=work, environment=clean_environment)
    holder.until(lambda: holder.output == "held\n")
    before = contents(untouched)
    arguments = (f"trainer.resume={untouched}", "trainer.max_steps=70")
    refused = command(*arguments, folder=work)
    assert refused.code == 1
    (error,) = errors(refused)
    assert f"is in use by another run (process {holder.pid} on" in error
    assert contents(untouched) == before
    # A lock ends with its process, however that ends.
    os.kill(holder.pid, signal.SIGKILL)
    holder.end()
    free = command(f"trainer.resume={untouched}", folder=work)
    assert free.code == 0, free.output + free.errors


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 400 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(["mount", *options], capture_output=True).returncode:
        pytest.skip("only root can mount a small disk, and not everywhere")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_ends_a_run_that_resumes_with_more_space(
    command: Callable[..., Any], untouched: Path, work: Path, small_disk: Path
) -> None:
    run = small_disk / "run"
    arguments = (
        *SMALL, "tracker=none", "trainer.resume=auto", f"hydra.run.dir={run}",
        "trainer.save_every=10", "trainer.keep_checkpoints=99",
    )  # fmt: skip
    full = command(*arguments, folder=work)
    assert full.code == 1
    (error,) = errors(full)
    assert "the checkpoint cannot be written (" in error
    assert "No space left on device" in error
    whole = {path.name for path in (run / "checkpoints").iterdir()}
    assert whole
    assert not any("." in name for name in whole)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    unwritable = command(*arguments, folder=work)
    assert unwritable.code == 1
    (error,) = errors(unwritable)
    assert "Read-only file system" in error
    subprocess.run(["mount", "-o", "remount,rw,size=20m", str(small_disk)], check=True)
    done = command(*arguments, folder=work)
    assert done.code == 0, done.output + done.errors
    assert f"resuming from {run}/checkpoints/step-" in done.output + done.errors
    expected = outcome(untouched)
    del expected["checkpoints"]
    assert differences(run, expected, done.code) == []
    with contextlib.suppress(OSError):
        (small_disk / "filler").write_bytes(bytes(20 << 20))
    other = command(*SMALL, "tracker=none", f"hydra.run.dir={small_disk}/other", folder=work)
    assert other.code == 1
    (error,) = errors(other)
    assert f"No space left on device: '{small_disk}/other'" in error


def test_a_trackers_death_does_not_end_the_run(
    started: Callable[..., Any], untouched: Path, work: Path
) -> None:
    run = work / "untracked"
    process = started(*SMALL, "tracker.mode=offline", f"hydra.run.dir={run}")
    process.until(lambda: len(rows(run)) >= 1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    service = [
        int(child)
        for child in children
        if b"wandb-core" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    assert service
    for child in service:
        os.kill(child, signal.SIGKILL)
    assert process.end() == 0, process.output
    assert process.output.count("The run continues without it.") == 1
    assert "Traceback" not in process.output
    assert differences(run, outcome(untouched), 0) == []


def test_runs_killed_at_random_moments_end_as_if_untouched(
    forkserver: ForkServer, clean_environment: dict[str, str], tmp_path: Path
) -> None:
    soak = f"import sys; sys.path.append({str(Path(__file__).parent)!r}); import soak; soak.main()"
    started = forkserver.start(
        *("-c", soak, "--trials", "4"), folder=tmp_path, environment=clean_environment
    )
    assert started.end(3000) == 0, started.output + started.errors
    assert re.fullmatch("4 trials, .* 0 losses", started.output.splitlines()[-1])


PREPARE = """
import sys, time
from pathlib import Path
from hydra import compose, initialize_config_dir
from bertexp.config import conf_dir, parse
with initialize_config_dir(str(conf_dir()), version_base="1.3"):
    config = parse(compose("config", overrides=sys.argv[2:]))
from bertexp.experiment.prepare import prepare_data
while not Path(sys.argv[1]).exists():
    time.sleep(0.001)
data = prepare_data(config)
print(data.tokens["train"].fingerprint, *data.reference.fingerprints.values(), len(data.examples))
"""


def test_two_processes_build_one_cache(
    forkserver: ForkServer, clean_environment: dict[str, str], tmp_path: Path
) -> None:
    cache, both_are_there = tmp_path / "cache", tmp_path / "go"
    builders = [
        forkserver.start(
            *("-c", PREPARE, str(both_are_there), *SMALL),
            folder=tmp_path,
            environment=clean_environment | {"BERTEXP_CACHE": str(cache)},
        )
        for _ in range(2)
    ]
    both_are_there.touch()
    assert [builder.end() for builder in builders] == [0, 0], [b.errors for b in builders]
    first, second = (builder.output.splitlines()[-1] for builder in builders)
    assert first == second
    # Each thing is there once, and whole.
    for kind in cache.iterdir():
        assert [path for path in kind.iterdir() if path.name.startswith(".")] == []
        # The parts of a corpus are gone when it is whole.
        assert len(list(kind.iterdir())) == (0 if kind.name.endswith("-shards") else 1)


def test_every_trainer_key_is_classed(experiment_config: Callable[..., Config]) -> None:
    from dataclasses import fields

    from bertexp.config import changes_outcome
    from bertexp.experiment.resuming import BUDGET

    free = {
        field.name
        for field in fields(TrainerConfig)
        if not changes_outcome(f"trainer.{field.name}") or f"trainer.{field.name}" in BUDGET
    }
    assert {field.name for field in fields(TrainerConfig)} - free == {
        *("batch_size", "gradient_accumulation_steps", "gradient_clip"),
    }
