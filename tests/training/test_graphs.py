"""Recorded steps are the steps they replace; here calls take the place of CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from calls import Calls

from bertexp.config import Config
from bertexp.experiment.prepare import Data
from bertexp.families.build import build_model
from bertexp.objectives.learner import Learner
from bertexp.training import graphs
from bertexp.training.budget import Budget
from bertexp.training.loading import Packed
from bertexp.training.loop import Watch, train
from bertexp.training.phase import Phase
from bertexp.training.plan import RECORDED_LENGTHS, BatchPlan
from bertexp.training.prepare import prepare_training
from bertexp.training.setup import build_accelerator
from bertexp.training.shapes import tensors_of

STEPS = 16
SETTINGS = [
    *("mlm", "mlm_nsp", "nsp", "diffusion", "clm task.pad_to=128"),
    "mlm masking=span task.loss.z_loss=0.001 task.loss.frequency_exponent=0.5",
    "mlm trainer.gradient_accumulation_steps=2",
    "mntp task.format=packed task.attention=document task.mntp.causal_share=0.5",
    "diffusion task.format=full_sentences task.loss.label_smoothing=0.1",
]


@pytest.fixture
def run(
    experiment_config: Callable[..., Config],
    prepared: Callable[..., Data],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Any]:
    """Return a function that trains; returns the logged lines and the weights."""
    monkeypatch.setattr(graphs, "CudaRecorder", Calls)

    def trained(setting: str, recorded: bool, packs: bool = False) -> Any:
        task, *own = setting.split()
        data = prepared(f"task={task}", *own)
        config = experiment_config(
            *(f"task={task}", *own, "model.hidden_size=16", "model.intermediate_size=16"),
            *("trainer.batch_size=4", "trainer.log_every=1", "hardware=cpu", "hardware.threads=1"),
            "hardware.precision=fp32",
        )
        accelerator = build_accelerator(config.hardware, [])
        heads = data.task.heads
        model = build_model(config.family, config.model, heads, data.tokenizer, 128, 0)
        learner = Learner(model, data.task.objectives)
        phase = Phase(config, data.task.objectives, data.task.weights, data.examples)
        (training,) = prepare_training([phase], learner, accelerator)
        training.recorded = recorded
        if recorded:
            training.batches = BatchPlan.of(data.examples, config, 0, packs=packs).in_few_shapes(
                RECORDED_LENGTHS
            )
        training.budget = Budget(STEPS, None, None)
        lines: list[dict[str, float]] = []

        class Keeping(Watch):
            def log(self, fraction: float, metrics: dict[str, float]) -> None:
                lines.append(metrics)

        steps = (training.batches[step] for step in range(STEPS))
        train(training, steps, Keeping())
        return lines, learner.state_dict()

    return trained


@pytest.mark.parametrize("packs", [False, True])
@pytest.mark.parametrize("setting", SETTINGS)
def test_recorded_steps_have_the_same_results(
    run: Callable[..., Any], setting: str, packs: bool
) -> None:
    Calls.recorded = 0
    expected, weights = run(setting, False)
    lines, found = run(setting, True, packs)
    assert 0 < Calls.recorded < STEPS
    for ours, theirs in zip(lines, expected, strict=True):
        for name in ("train/loss", "train/grad_norm", "train/learning_rate"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4), name
        assert ours.get("train/masked_fraction") == theirs.get("train/masked_fraction")
    for name, weight in weights.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-4)


def test_steps_packed_for_a_gpu_are_the_same(prepared: Callable[..., Data]) -> None:
    plan = BatchPlan(prepared("task=mlm_nsp").examples, 4, 2, 0).in_few_shapes(RECORDED_LENGTHS)
    steps = [plan[number] for number in range(5)]
    arrived = [*Packed.of(steps).to(torch.device("cpu"))]
    for step, same in zip(steps, arrived, strict=True):
        for batch, other in zip(step, same, strict=True):
            assert batch.example_ids.tolist() == other.example_ids.tolist()
            assert batch.predictions == other.predictions
            for ours, theirs in zip(tensors_of([other]), tensors_of([batch]), strict=True):
                assert ours.dtype == theirs.dtype and ours.equal(theirs)
