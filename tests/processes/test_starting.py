"""Processes are started together, and end together: by themselves, a signal or an error."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from forkserver import Process

TWO = "hardware.num_processes=2"
ENDLESS = "trainer.max_steps=100000"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "bertexp")


def all_gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=120)[1]


def to_the_process(process: Process) -> int:
    os.kill(process.pid, signal.SIGTERM)
    return signal.SIGTERM


def to_its_terminal(process: Process) -> int:
    os.killpg(process.pid, signal.SIGINT)
    return signal.SIGINT


@pytest.mark.parametrize("send", [to_the_process, to_its_terminal])
def test_a_signal_stops_all_after_the_same_step(place: Any, send: Callable[[Process], int]) -> None:
    name = send.__name__
    process = place.start("-m", "bertexp", *place.small, TWO, ENDLESS, f"hydra.run.dir={name}")
    place.until(name, 5, process)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    number = send(process)
    assert process.end() == 128 + number, process.output
    output = process.output
    assert output.count("saved; to resume: python -m bertexp trainer.resume=") == 1
    assert "Traceback" not in output
    assert place.summary(name)["status"] == "interrupted"
    last = place.lines(name)[-1]["step"]
    assert (place.folder / name / "checkpoints" / f"step-{last}").is_dir()
    assert all_gone(workers)


def test_one_that_is_killed_ends_all(place: Any) -> None:
    process = place.start("-m", "bertexp", *place.small, TWO, ENDLESS, "hydra.run.dir=killed")
    place.until("killed", 3, process)
    below = psutil.Process(process.pid).children(recursive=True)
    ranks = [child for child in below if "spawn_main" in " ".join(child.cmdline())]
    assert len(ranks) == 2
    ranks[1].kill()
    assert process.end() == 1
    output = process.output
    (error,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert error.startswith("error: process ") and "was ended by SIGKILL" in error
    assert "Traceback" not in output
    assert place.summary("killed")["status"] == "failed"
    assert all_gone(below)


def test_a_mistake_is_one_line(place: Any) -> None:
    text = ("dataset=text", "dataset.files=[missing.txt]", "hydra.run.dir=nowhere")
    done = place.command(*text, TWO, "tracker=none", folder=place.folder)
    (line,) = done.lines
    assert done.code == 1
    assert line.startswith("error: ") and "missing.txt" in line
    assert not (place.folder / "nowhere").exists(), "nothing is left behind"


def test_torchrun_has_one_folder_and_the_same_losses(
    place: Any, trained: Callable[..., str], assert_same_run: Callable[..., None]
) -> None:
    process = place.start(*TORCHRUN, *place.small, "trainer.gradient_accumulation_steps=2")
    assert process.end(6000) == 0, process.output
    (run,) = (place.folder / "outputs").glob("20*/*")
    assert_same_run(str(run.relative_to(place.folder)), trained("mlm", 2))
    assert process.output.count("eval/pseudo_perplexity") == 2  # in the plan and the report


SPOILT = """
import os, sys
if os.environ.get("RANK") == "1" and "bertexp" in " ".join(sys.orig_argv):
    from bertexp.training.saving import Saver
    from bertexp.validation import UserError
    def refuse(_, run):
        if run.state.step == 10:
            raise UserError("only here")
        return False
    Saver.is_due = refuse
"""


def test_an_error_of_another_process_is_the_runs(place: Any, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SPOILT)
    path = f"{tmp_path}:{place.environment['PYTHONPATH']}"
    process = place.start(*TORCHRUN, *place.small, "hydra.run.dir=spoilt", PYTHONPATH=path)
    assert process.end(6000) == 1
    assert "error: only here" in process.output
    summary = place.summary("spoilt")
    assert (summary["status"], summary["error"]) == ("failed", "UserError: only here")
    assert "error: only here" in (place.folder / "spoilt" / "bertexp.log").read_text()


def test_a_job_in_a_worker_of_joblibs_starts_them(place: Any) -> None:
    """Jobs one after the other in one process: ``in_two``."""
    few = ("trainer.max_steps=4", "evaluation.every=null")
    joblib = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    done = place.command(
        *("-m", *place.small, *few, TWO, "masking.prob=0.3", "sweep=apart", *joblib),
        folder=place.folder,
    )
    assert done.code == 0, done.lines
    (job,) = (place.folder / "outputs" / "sweeps" / "apart").glob("*/")
    assert place.summary(str(job.relative_to(place.folder)))["status"] == "finished"
