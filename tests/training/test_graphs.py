"""Recorded steps are the steps they replace; here calls take the place of CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from subprocess import CalledProcessError
from typing import Any, NoReturn

import pytest
import torch
from calls import Calls

from bertexp.config import Config
from bertexp.experiment.dry_run import MEASURED, measure_steps
from bertexp.experiment.prepare import Data
from bertexp.families.build import build_model
from bertexp.objectives.learner import Learner
from bertexp.training import graphs
from bertexp.training.budget import Budget
from bertexp.training.graphs import end_capture, tensors_of
from bertexp.training.loading import Packed
from bertexp.training.loop import Callbacks, Phase, Training, train
from bertexp.training.plan import COMPILED_LENGTHS, RECORDED_LENGTHS, BatchPlan
from bertexp.training.prepare import prepare_training
from bertexp.training.setup import build_accelerator
from bertexp.training.step import Computed
from bertexp.validation import UserError

STEPS = 16
SETTINGS = [
    *("mlm", "mlm_nsp", "nsp", "diffusion", "clm task.pad_to=128"),
    "mlm masking=span task.loss.z_loss=0.001 task.loss.frequency_exponent=0.5",
    "mlm trainer.gradient_accumulation_steps=2",
    "mlm masking=adaptive",
    "mntp task.format=packed task.attention=document task.mntp.causal_share=0.5",
    "diffusion task.format=full_sentences task.loss.label_smoothing=0.1",
]


@pytest.fixture
def ready(
    experiment_config: Callable[..., Config],
    prepared: Callable[..., Data],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., tuple[Training, Learner]]:
    """Return a function that prepares a training."""
    monkeypatch.setattr(graphs, "CudaRecorder", Calls)

    def prepare(
        setting: str, recorded: bool, packs: bool = False, compiled: bool = False, **hardware: bool
    ) -> tuple[Training, Learner]:
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
        training.recorded, training.compiled = recorded, compiled
        vars(config.hardware).update(hardware)
        if recorded:
            training.batches = BatchPlan.of(data.examples, config, 0, packs=packs).in_few_shapes(
                RECORDED_LENGTHS
            )
        if compiled:
            training.batches = training.batches.in_few_shapes(COMPILED_LENGTHS)
        return training, learner

    return prepare


@pytest.fixture
def run(ready: Callable[..., tuple[Training, Learner]]) -> Callable[..., Any]:
    """Return a function that trains; returns the logged lines and the weights."""

    def trained(*setting: Any, phases: int = 1, **settings: bool) -> Any:
        training, learner = ready(*setting, **settings)
        lines: list[dict[str, float]] = []

        class Keeping(Callbacks):
            def log(self, fraction: float, metrics: dict[str, float]) -> None:
                lines.append(metrics)

        steps = (training.batches[step] for step in range(STEPS))
        for number in range(1, phases + 1):
            phase = replace(training, budget=Budget(STEPS * number // phases, None, None))
            train(phase, steps, Keeping())
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


def test_a_dry_run_measures_steps_that_are_replayed(
    ready: Callable[..., tuple[Training, Learner]], monkeypatch: pytest.MonkeyPatch
) -> None:
    training, learner = ready("mlm", True)
    trained = list[str]()
    compute = graphs.compute_step

    def noted(*arguments: Any) -> Computed:
        trained.append("recorded" if torch.is_tensor(arguments[2]["mlm"]) else "as usual")
        return compute(*arguments)

    monkeypatch.setattr(graphs, "compute_step", noted)
    planned, _ = measure_steps(learner, training)
    assert planned.pace() > 0
    assert trained[:3] == ["as usual"] * 3
    # What replays a step in place of a graph calls it again.
    assert trained[-MEASURED:] == ["recorded"] * MEASURED


class Failing(Calls):
    """Fails after the gradients, as a capture does that lacks memory."""

    tried = 0

    def __call__(self, function: Callable[[], Computed]) -> NoReturn:
        Failing.tried += 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.optim.AdamW, "step", failing)
            function()
        raise AssertionError


def failing(*arguments: object, **settings: object) -> NoReturn:
    raise RuntimeError("CUDA out of memory\nmore of it")


def without_compiler(*arguments: object, **settings: object) -> NoReturn:
    raise CalledProcessError(1, "gcc")


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("graphs", "CUDA out of memory"),
        ("compile", "Command 'gcc' returned non-zero exit status 1"),
    ],
)
def test_without_what_auto_chose_and_cannot_do_a_run_continues_as_usual(
    run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    key: str,
    reason: str,
) -> None:
    expected, weights = run("mlm", True, phases=2)
    Failing.tried = 0
    if key == "graphs":
        monkeypatch.setattr(graphs, "CudaRecorder", Failing)
    else:
        monkeypatch.setattr(torch, "compile", lambda *arguments, **settings: without_compiler)
    lines, found = run("mlm", True, compiled=key == "compile", phases=2)
    for ours, theirs in zip(lines, expected, strict=True):
        assert ours["train/loss"] == pytest.approx(theirs["train/loss"], rel=1e-4)
    torch.testing.assert_close(found, weights, rtol=1e-3, atol=1e-4)
    (warning,) = caplog.messages
    assert warning.startswith(f"hardware.{key}=auto: ")
    assert warning.endswith(f": {reason}")
    assert Failing.tried == (key == "graphs")


def test_what_was_set_must_work(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "CudaRecorder", Failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        run("mlm", True, graphs=True)


def test_a_capture_that_cannot_be_ended_is_an_error_that_names_the_key() -> None:
    class Broken:
        def capture_end(self) -> NoReturn:
            raise RuntimeError("CUDA error: operation failed due to a previous error")

    graph: Any = Broken()
    wanted = r"hardware.graphs: .*\(CUDA out of memory\); use hardware.graphs=false"
    with pytest.raises(UserError, match=wanted):
        try:
            failing()
        finally:
            end_capture(graph)


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
