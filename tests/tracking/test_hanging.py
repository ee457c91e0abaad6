"""Trackers that hang: they are waited for once, and then left."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from accelerate.tracking import GeneralTracker
from forkserver import ForkServer

from bertexp.tracking.base import SafeTracker, Unanswered, within

# The whole command, with less patience than it has, once W&B has started.
IMPATIENT = """
import sys
from bertexp.cli import main
from bertexp.tracking.base import SafeTracker
start = SafeTracker.start
def begin(tracker):
    start(tracker)
    SafeTracker.seconds_to_answer = SafeTracker.seconds_to_finish = 4.0
SafeTracker.start = begin
sys.argv[0] = "bertexp"
main()
"""


class Stuck(GeneralTracker):
    """A tracker that never answers from its ``calls``-th call on."""

    name = "stuck"
    requires_logging_directory = False
    tracker = None

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.left = calls
        self.logged: list[int | None] = []

    def start(self) -> None:
        self._wait()

    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        self._wait()
        self.logged.append(step)

    def finish(self) -> None:
        self._wait()

    def _wait(self) -> None:
        self.left -= 1
        if self.left < 0:
            time.sleep(3600)


class Tracker(SafeTracker):
    name = "stuck"
    seconds_to_answer = seconds_to_finish = 0.2


@pytest.mark.parametrize("calls", [0, 1, 2, 3])
def test_whenever_it_hangs_it_is_left_with_one_warning(
    calls: int, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = Stuck(calls)
    tracker = Tracker(stuck)
    began = time.monotonic()
    tracker.start()
    for step in (1, 2):
        tracker.log({"a": 1.0}, step)
    tracker.close(failed=False)
    assert stuck.logged == [1, 2][: max(calls - 1, 0)]
    (record,) = caplog.records
    assert record.getMessage() == (
        "stuck: does not answer, after 0.2 seconds. The run continues without it."
    )
    # Its hour is not waited for, not once and not by each call.
    assert time.monotonic() - began < 60


def test_what_an_action_raises_comes_through() -> None:
    def fail() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        within(60, fail)
    with pytest.raises(Unanswered, match=r"after 0\.05 seconds"):
        within(0.05, lambda: time.sleep(3600))


def test_a_wandb_service_that_hangs_does_not_hold_up_the_run(
    forkserver: ForkServer, environment: dict[str, str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = forkserver.start(
        *("-c", IMPATIENT, "dataset=synthetic", "tracker.mode=offline"),
        *("dataset.synthetic.documents=60", "tokenizer.vocab_size=256", "hardware.threads=1"),
        *("model.hidden_size=16", "model.intermediate_size=16", "evaluation.every=null"),
        *("trainer.epochs=null", "trainer.max_steps=60", "trainer.batch_size=4"),
        "evaluation.probes=[]",
        *("trainer.log_every=1", "evaluation.max_examples=8", f"hydra.run.dir={run}"),
        folder=tmp_path,
        environment=environment | {"BERTEXP_CACHE": str(tmp_path / "cache")},
        together=True,
    )
    metrics = run / "metrics.jsonl"
    process.until(lambda: metrics.exists() and metrics.read_text().count("\n") > 2)
    children = psutil.Process(process.pid).children()
    (service,) = [child for child in children if "wandb-core" in " ".join(child.cmdline())]
    service.suspend()
    assert process.end(120) == 0, process.output
    output = process.output
    assert output.count("wandb: does not answer, after 4 seconds. The run continues") == 1
    assert "Traceback" not in output
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps == [*range(61), 60]
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"
    # Nor is it left behind.
    assert not psutil.wait_procs([service], timeout=60)[1]
