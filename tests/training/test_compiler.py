"""A run is compiled where the steps that are left pay for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from bertexp.training import compiler
from bertexp.training.compiler import choose_compiling
from bertexp.training.loop import Training


@pytest.mark.parametrize(
    ("steps", "recorded", "setting", "expected"),
    [
        (100, True, "auto", False),
        (1_000_000, True, "auto", True),
        (1_000_000, True, "false", False),
        # It would take several GPUs, or an objective whose steps are not recorded.
        (1_000_000, False, "auto", False),
        (100, False, "true", True),
    ],
)
def test_long_runs_are_compiled(
    begin: Callable[..., Training],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    steps: int,
    recorded: bool,
    setting: str,
    expected: bool,
) -> None:
    run = begin(budget=steps)
    run.config.hardware.compile = {"true": True, "false": False}.get(setting, setting)
    run.recorded = recorded
    monkeypatch.setattr(compiler, "_obstacle", lambda _: None)
    caplog.set_level("INFO")
    choose_compiling(run, run.accelerator.unwrap_model(run.learner))
    assert run.compiled == expected
    assert bool(run.batches.shapes) == expected
    decided = setting == "auto" and recorded
    assert [f"{steps} steps are left" in message for message in caplog.messages] == [True] * decided


def test_a_cpu_never_compiles_by_itself(begin: Callable[..., Training]) -> None:
    run = begin(budget=1_000_000)
    run.recorded = True
    assert run.accelerator.device == torch.device("cpu")
    choose_compiling(run, run.accelerator.unwrap_model(run.learner))
    assert not run.compiled
