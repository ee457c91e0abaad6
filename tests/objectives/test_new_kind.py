"""An objective of a new kind, from a plugin's one file: replaced token detection."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode, mm_flop

from bertexp import plugins
from bertexp.config import Config
from bertexp.evaluation.bank import draw_samples, evaluate
from bertexp.experiment.prepare import Data
from bertexp.families.build import build_model
from bertexp.families.checkpoint import BESIDE_FILE, export_model
from bertexp.objectives.batch import Batch
from bertexp.objectives.learner import Learner
from bertexp.training.shards import own_weights
from bertexp.validation import UserError

LAB = Path(__file__).parents[1] / "plugins" / "rtd_lab.py"
CPU = torch.device("cpu")
TASKS = [["rtd_lab"], ["mlm", "rtd_lab"], ["rtd_lab", "mlm"]]


@pytest.fixture(scope="module")
def built(
    experiment_config: Callable[..., Config], prepared: Callable[..., Data]
) -> Callable[..., tuple[Learner, Data]]:
    """Return a function that builds what a task with this objective trains."""
    plugins.load([str(LAB)])

    def build(objectives: list[str], *overrides: str) -> tuple[Learner, Data]:
        chosen = (f"task.objectives=[{','.join(objectives)}]", *overrides)
        data = prepared(*chosen)
        config = experiment_config("model.hidden_size=32", *chosen)
        parts = (config.family, config.model, data.task.heads, data.tokenizer, 128, 0)
        return Learner(build_model(*parts), data.task.objectives), data

    return build


@pytest.mark.parametrize("objectives", TASKS)
def test_its_losses_weights_and_operations(
    built: Callable[..., tuple[Learner, Data]], objectives: list[str]
) -> None:
    learner, data = built(objectives, "task.weights={rtd_lab: 0.5}")
    batch = data.examples.batch(0, np.arange(8))
    in_place: Any = {torch.ops.aten.addmm_: lambda _, left, right, **__: mm_flop(left, right)}
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        losses = learner(batch)
        torch.stack([*losses.values()]).sum().backward()
    assert learner.flops(batch) == pytest.approx(counter.get_total_flops(), rel=0.001)
    assert losses.keys() == data.task.weights.keys() == batch.predictions.keys()
    assert data.task.weights["rtd_lab"] == 25
    assert data.task.weights["rtd_lab_generator"] == 0.5
    assert batch.predictions["rtd_lab"] == batch.maskable > batch.predicted > 0
    missing = [name for name, p in learner.named_parameters() if p.grad is None]
    assert not missing, "processes would wait for these"
    assert not any(loss.item() for loss in learner(batch.idle()).values())


def test_its_losses_are_the_same_beside_another_objective(
    built: Callable[..., tuple[Learner, Data]],
) -> None:
    found = []
    for objectives in TASKS:
        learner, data = built(objectives)
        generator = learner(data.examples.batch(0, np.arange(8)))["rtd_lab_generator"]
        found.append(generator.item())
    assert found[0] == found[1] == found[2]


def test_a_batch_depends_on_seed_epoch_and_example_alone(
    built: Callable[..., tuple[Learner, Data]],
) -> None:
    _, data = built(["rtd_lab"])

    def chances(batch: Batch, row: int) -> list[float]:
        target: Any = batch.targets["rtd_lab_generator"]
        rows = target.rows(batch.input_ids_BL.shape[1])
        found: list[float] = target.chances_N[torch.from_numpy(rows == row)].tolist()
        return found

    order = np.argsort(data.examples.lengths(0))
    alone = data.examples.batch(1, order[:1])
    beside = data.examples.batch(1, order[[-1, 0]])
    assert alone.input_ids_BL.shape[1] < beside.input_ids_BL.shape[1]
    assert chances(alone, 0) == chances(beside, 1)
    assert chances(alone, 0) != chances(data.examples.batch(0, order[:1]), 0)


def test_what_is_trained_beside_the_model_is_drawn_by_the_seed_saved_and_loaded(
    built: Callable[..., tuple[Learner, Data]], tmp_path: Path
) -> None:
    learner, data = built(["rtd_lab"])
    torch.rand(3)
    again, _ = built(["rtd_lab"])
    state = learner.own.state_dict()
    assert all(weight.equal(again.own.state_dict()[name]) for name, weight in state.items())
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    for name, to_export in (("checkpoint", False), ("export", True)):
        own = own_weights(learner, to_export=to_export)
        export_model(learner.model, data.tokenizer, 128, tmp_path / name, None, own)
    saved = load_file(tmp_path / "export" / BESIDE_FILE)
    assert saved and all(name.startswith("rtd_lab.head.") for name in saved)
    before = evaluate(learner, data.bank, CPU)
    again.model.load_state_dict(learner.model.state_dict())
    again.load_own(tmp_path / "export")
    assert evaluate(again, data.bank, CPU) == before
    again.load_own(tmp_path / "checkpoint")
    state = learner.own.state_dict()
    assert all(weight.equal(again.own.state_dict()[name]) for name, weight in state.items())
    with pytest.raises(UserError, match="it was trained on another task"):
        again.load_own(tmp_path)


def test_it_is_evaluated_with_samples(built: Callable[..., tuple[Learner, Data]]) -> None:
    learner, data = built(["rtd_lab"])
    metrics = evaluate(learner, data.bank, CPU)
    assert metrics["eval/loss"] == metrics["eval/rtd_lab_loss"] > 0
    assert data.bank.reference.yardsticks["eval/rtd_lab_accuracy"] > 0.5
    (sample,) = draw_samples(learner, data.bank, CPU)
    assert len(sample.rows()) > 10 and {len(row) for row in sample.rows()} == {3}
    assert str(sample.shown())
