"""On a GPU: the numbers of the CPU, and no waiting for it. Skipped where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from bertexp.config import Config
from bertexp.experiment.prepare import Data
from bertexp.families.build import build_model
from bertexp.families.compiling import compiling
from bertexp.families.trials import pack
from bertexp.objectives.batch import Batch
from bertexp.objectives.learner import Learner
from bertexp.objectives.positions import packed
from bertexp.training import graphs
from bertexp.training.budget import Budget
from bertexp.training.loading import load_steps
from bertexp.training.loop import Callbacks, Phase, Training, train
from bertexp.training.prepare import prepare_training
from bertexp.training.setup import build_accelerator
from bertexp.training.step import BadSteps, Computed

pytestmark = pytest.mark.gpu

SIZES = ("model.hidden_size=64", "model.num_hidden_layers=3", "model.dropout=0")


@pytest.fixture(scope="module")
def data(prepared: Callable[..., Data]) -> Data:
    return prepared("task=mlm_nsp")


@pytest.fixture(scope="module")
def batch(data: Data) -> Batch:
    """Sentence pairs of several lengths."""
    order = np.argsort(data.examples.lengths(0))
    return data.examples.batch(0, np.concatenate([order[:4], order[-4:]]))


@pytest.fixture
def model(experiment_config: Callable[..., Config], data: Data) -> Any:
    config = experiment_config("task=mlm_nsp", *SIZES)
    longest = config.task.max_length
    return build_model(
        config.family, config.model, data.task.heads, data.tokenizer, longest, config.seed
    )


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def computed(objective: Learner, batch: Batch, precision: torch.dtype | None = None) -> Any:
    """Return losses and gradients, on the CPU."""
    device = next(objective.parameters()).device
    with torch.autocast(device.type, dtype=precision, enabled=precision is not None):
        losses = objective(batch.to(device))
    torch.stack(list(losses.values())).sum().backward()
    gradients = torch.cat([p.grad.flatten().cpu() for p in objective.parameters()])
    objective.zero_grad()
    return torch.stack(list(losses.values())).detach().cpu(), gradients


@pytest.mark.parametrize(
    ("precision", "is_compiled", "error"),
    [
        *((None, False, 1e-5), (None, True, 1e-5)),
        *((torch.bfloat16, False, 3e-2), (torch.bfloat16, True, 3e-2)),
    ],
)
@pytest.mark.parametrize("packs", [False, True])
def test_losses_and_gradients_are_those_of_the_cpu(
    model: Any,
    data: Data,
    batch: Batch,
    precision: torch.dtype | None,
    is_compiled: bool,
    error: float,
    packs: bool,
) -> None:
    torch.set_float32_matmul_precision("highest")
    objective = Learner(model, data.task.objectives)
    expected = computed(objective, batch)
    if packs:
        batch = packed(batch, 64)
        assert batch.packed_T is not None
    objective.cuda()
    with compiling(is_compiled):
        found = computed(objective, batch, precision)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).norm() / theirs.norm() < error


@pytest.mark.parametrize("family", ["modernbert", "distilbert"])
def test_other_families_leave_out_padding_too(
    experiment_config: Callable[..., Config], prepared: Callable[..., Data], family: str
) -> None:
    config, data = experiment_config(f"family={family}", *SIZES), prepared()
    heads = data.task.heads
    model = build_model(config.family, config.model, heads, data.tokenizer, 128, 0)
    objective, order = Learner(model, data.task.objectives), np.argsort(data.examples.lengths(0))
    batch = data.examples.batch(0, np.concatenate([order[:4], order[-4:]]))
    expected = computed(objective, batch)
    assert pack(objective.cuda().family, torch.device("cuda"), torch.bfloat16)
    found = computed(objective, packed(batch, 64), torch.bfloat16)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).norm() / theirs.norm() < 3e-2


@pytest.mark.parametrize("is_compiled", [False, True])
def test_limited_attention_is_that_of_the_cpu(
    experiment_config: Callable[..., Config], prepared: Callable[..., Data], is_compiled: bool
) -> None:
    """Causal rows and others, of documents that do not attend to each other."""
    packed = ("task.format=packed", "task.attention=document")
    overrides = ("task=mntp", "task.mntp.causal_share=0.5", *packed)
    config, data = experiment_config(*overrides, *SIZES), prepared(*overrides)
    model = build_model(config.family, config.model, data.task.heads, data.tokenizer, 128, 0)
    torch.set_float32_matmul_precision("highest")
    objective, batch = Learner(model, data.task.objectives), data.examples.batch(0, np.arange(8))
    assert batch.causal_B is not None
    assert batch.parts_BL is not None
    expected = computed(objective, batch)
    objective.cuda()
    with compiling(is_compiled):
        found = computed(objective, batch)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).norm() / theirs.norm() < 1e-5


def ready(config: Config, data: Data, model: Any) -> Training:
    accelerator = build_accelerator(config.hardware, [])
    learner = Learner(model, data.task.objectives).to(accelerator.device)
    phase = Phase(config, data.task.objectives, data.task.weights, data.examples)
    (training,) = prepare_training([phase], learner, accelerator)
    return training


def lacking_memory(function: Callable[..., Any]) -> Callable[..., Any]:
    def failing(*arguments: Any, **settings: Any) -> Any:
        if Counted.is_recording:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return function(*arguments, **settings)

    return failing


class Counted(graphs.CudaRecorder):
    """Counts what it has recorded."""

    recorded, is_recording = 0, False

    def __call__(self, function: Callable[[], Computed]) -> Any:
        Counted.is_recording = True
        try:
            found = super().__call__(function)
        finally:
            Counted.is_recording = False
        Counted.recorded += 1
        return found


@pytest.mark.parametrize(
    ("precision", "error", "task", "lacks_memory"),
    [
        ("bf16", 3e-2, ("task=mlm_nsp",), False),
        ("bf16", 3e-2, ("task=mlm", "family=modernbert"), False),
        ("fp32", 1e-3, ("task=mlm", "masking=adaptive"), False),
        ("fp32", 1e-3, ("task=mlm_nsp",), True),
    ],
)
def test_recorded_steps_have_the_same_losses(
    experiment_config: Callable[..., Config],
    prepared: Callable[..., Data],
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    error: float,
    task: tuple[str, ...],
    lacks_memory: bool,
) -> None:
    """Also where one cannot be recorded for lack of memory, which leaves nothing behind."""
    data = prepared(*task)
    fixed = (f"hardware.precision={precision}", "trainer.batch_size=8", "trainer.log_every=1")

    def losses(recorded: str) -> list[float]:
        config = experiment_config(*task, *SIZES, *fixed, f"hardware.graphs={recorded}")
        heads, found = data.task.heads, list[float]()
        training = ready(
            config, data, build_model(config.family, config.model, heads, data.tokenizer, 128, 0)
        )
        torch.set_float32_matmul_precision("highest")
        training.budget = Budget(24, None, None)
        learner, device = training.learner, training.accelerator.device
        assert isinstance(learner, Learner)

        class Reading(Callbacks):
            def log(self, fraction: float, metrics: dict[str, float]) -> None:
                found.append(metrics["train/loss"])

        train(training, load_steps(training.batches, 0, 0, device, rates=learner.rates), Reading())
        assert training.unable == ({"graphs"} if lacks_memory and recorded == "auto" else set())
        return found

    expected = losses("false")
    Counted.recorded = 0
    monkeypatch.setattr(graphs, "CudaRecorder", Counted)
    if lacks_memory:
        monkeypatch.setattr(torch.optim.AdamW, "step", lacking_memory(torch.optim.AdamW.step))
    assert losses("auto") == pytest.approx(expected, rel=error)
    assert (Counted.recorded == 0) == lacks_memory
    torch.cuda.empty_cache()
    assert torch.rand(8, device="cuda").isfinite().all()


def test_no_step_waits_for_the_gpu_but_those_that_are_logged(
    experiment_config: Callable[..., Config], data: Data, model: Any
) -> None:
    overrides = ("task=mlm_nsp", *SIZES, "trainer.batch_size=8", "trainer.log_every=1000000")
    config = experiment_config(*overrides)
    training = ready(config, data, model)
    # Every shape has been met, and what it takes has been loaded.
    steps, device = training.batches.steps_per_epoch, training.accelerator.device
    seen: list[int] = []

    class Watching(Callbacks):
        def step(self) -> None:
            seen.append(training.state.step)
            if training.state.step == steps:
                torch.cuda.set_sync_debug_mode("error")
            if training.state.step == 2 * steps - 1:
                torch.cuda.set_sync_debug_mode("default")

    training.budget = Budget(2 * steps, None, None)
    training.bad_steps = BadSteps(limit=1000000)
    try:
        train(training, iter(load_steps(training.batches, 0, 0, device)), Watching())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert seen[-1] == 2 * steps
    # A recording that waits would have been given up.
    assert not training.unable
