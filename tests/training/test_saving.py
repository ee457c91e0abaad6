"""What a run keeps: the newest, the best and the last; and that they hold all of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, BertForMaskedLM

from bertexp.experiment.prepare import Data
from bertexp.training.checkpoints import find_checkpoints
from bertexp.training.loop import Training
from bertexp.training.plan import BatchPlan
from bertexp.training.saving import Saver
from bertexp.training.snapshot import restore
from bertexp.training.state import Tally
from bertexp.training.step import accumulate_gradients
from bertexp.validation import UserError

Run = tuple[Training, Saver]


@pytest.fixture
def begun(
    begin: Callable[..., Training], prepared: Callable[..., Data], tmp_path: Path
) -> Callable[..., Run]:
    """Return a function that begins a small run in the same folder, as a new process would."""

    def run(*overrides: str, seed: int = 0) -> Run:
        training = begin("model.num_hidden_layers=1", *overrides, seed=seed)
        model = training.learner.model
        return training, Saver(model, prepared().tokenizer, 128, tmp_path, training.config.trainer)

    return run


def reach(training: Training, step: int) -> None:
    """Be after ``step``, with weights that show it."""
    training.state.step = step
    with torch.no_grad():
        training.learner.model.cls.predictions.bias.fill_(step)


def kept(run: Path) -> dict[str, float]:
    """Return which step's weights lie in each model's folder of a run."""
    found = sorted(path.parent for path in run.rglob("model.safetensors"))
    models = {path: BertForMaskedLM.from_pretrained(path) for path in found}
    return {
        str(path.relative_to(run)): model.cls.predictions.bias[0].item()
        for path, model in models.items()
    }


@pytest.mark.parametrize(
    ("losses", "steps", "best"),
    [
        ([3.0, 1.0, 2.0], {2, 3}, "checkpoints/step-2"),
        ([3.0, 2.0, 1.0], {2, 3}, "model"),
        ([1.0, 2.0, 3.0], {1, 3}, "checkpoints/step-1"),
        ([2.0], {1}, "model"),
        ([2.0, math.nan, math.nan], {1, 3}, "checkpoints/step-1"),
        ([math.nan, math.nan], {2}, None),
    ],
)
def test_the_best_and_the_last_are_kept(
    begun: Callable[..., Run], tmp_path: Path,
    losses: list[float], steps: set[int], best: str | None,
) -> None:  # fmt: skip
    training, saver = begun("trainer.keep_checkpoints=1")
    for step, loss in enumerate(losses, start=1):
        reach(training, step)
        if step < len(losses):
            saver.offer(loss, step)
        if step == len(losses) or saver.is_due(training):
            saver.save(training, {})
    saver.export(saver.model, training.learner, card="")
    saver.finish(losses[-1], len(losses), exports_best=False)
    expected = {f"checkpoints/step-{step}": step for step in steps}
    assert kept(tmp_path) == expected | {"model": len(losses)}
    assert saver.best == best
    if best:
        assert saver.cost == min(loss for loss in losses if not math.isnan(loss))
        assert losses[(saver.step or 0) - 1] == saver.cost
    AutoTokenizer.from_pretrained(tmp_path / "checkpoints" / f"step-{len(losses)}")


def test_a_resumed_run_knows_its_best(begun: Callable[..., Run], tmp_path: Path) -> None:
    training, saver = begun("trainer.keep_checkpoints=1")
    for step, loss in ((1, 2.0), (2, 3.0)):
        reach(training, step)
        saver.offer(loss, step)
        saver.save(training, {})
    checkpoint = find_checkpoints(tmp_path)[-1]
    _, again = begun()
    again.resume(checkpoint)
    assert (again.cost, again.step, again.best) == (2.0, 1, "checkpoints/step-1")
    (tmp_path / "checkpoints" / "step-1" / "model.safetensors").unlink()
    _, lost = begun()
    lost.resume(checkpoint)
    assert (lost.cost, lost.step, lost.best) == (math.inf, None, None)


@pytest.mark.parametrize(
    ("every", "due"),
    [
        ("3", [3, 6, 9]),
        ("null", []),
        ("1", [*range(1, 10)]),
        ("10min", []),
        ("0.0000001min", [*range(1, 10)]),
    ],
)
def test_it_is_saved_when_it_is_time(begun: Callable[..., Run], every: str, due: list[int]) -> None:
    training, saver = begun(f"trainer.save_every={every}")
    found = []
    for step in range(1, 10):
        training.state.step = step
        found += [step] if saver.is_due(training) else []
    assert found == due
    # Weights that give no finite loss do not push out those that do.
    training.bad_steps.in_a_row = 1
    assert not saver.is_due(training)


def after_steps(training: Training, plan: BatchPlan, steps: range) -> dict[str, Any]:
    """Train some steps; returns everything of the run that is a tensor, and what it counts."""
    for step in steps:
        tally = Tally.of(plan[step], flops=1.0)
        losses = accumulate_gradients(
            training.learner,
            training.accelerator,
            plan[step],
            training.weights,
            tally.predictions,
        )
        training.optimizer.step()
        training.optimizer.zero_grad()
        training.window.add(losses, torch.tensor(True), tally, 0.5)
        training.state.add(tally, 0.5)
    return {
        "weights": training.learner.state_dict(),
        "optimizer": training.optimizer.state_dict()["state"],
        "generator": torch.get_rng_state(),
        "window": training.window.plain(),
        "state": vars(training.state),
    }


def test_a_snapshot_is_the_run_to_the_last_bit(
    begun: Callable[..., Run], prepared: Callable[..., Data], tmp_path: Path
) -> None:
    plan = BatchPlan(prepared().examples, 4, 2, 0)
    training, saver = begun("model.dropout=0.3")
    after_steps(training, plan, range(3))
    saver.save(training, {})
    expected = after_steps(training, plan, range(3, 6))
    # Another seed: nothing of it may be left.
    again, _ = begun("model.dropout=0.3", seed=5)
    torch.manual_seed(99)
    restore(again, find_checkpoints(tmp_path)[-1])
    torch.testing.assert_close(after_steps(again, plan, range(3, 6)), expected, rtol=0, atol=0)


def test_another_model_is_refused(begun: Callable[..., Run], tmp_path: Path) -> None:
    training, saver = begun()
    reach(training, 1)
    saver.save(training, {})
    checkpoint = find_checkpoints(tmp_path)[-1]
    for other in ("model.hidden_size=32", "model.num_hidden_layers=2"):
        with pytest.raises(UserError, match=r"step-1: is of another model \("):
            restore(begun(other)[0], checkpoint)
