"""Compiled layers: the same numbers, the same weights, few programs.

What torch traces here is run as it is, without a C++ compiler: bertexp compiles on GPUs, where
``tests/test_gpu.py`` compares the numbers of what inductor makes of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from bertexp.experiment.prepare import Data
from bertexp.families.compiling import compiling, forget_programs
from bertexp.families.dropout import Dropout
from bertexp.objectives.batch import Batch
from bertexp.objectives.learner import Learner
from bertexp.training.plan import COMPILED_LENGTHS, BatchPlan

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    forget_programs()
    yield
    forget_programs()


def programs() -> int:
    return counters["stats"]["unique_graphs"]


def computed(objective: Learner, batch: Batch) -> tuple[dict[str, torch.Tensor], ...]:
    """Return losses and gradients of one batch."""
    losses = objective(batch)
    torch.stack(list(losses.values())).sum().backward()
    gradients = {n: p.grad.clone() for n, p in objective.named_parameters() if p.grad is not None}
    objective.zero_grad()
    return losses, gradients


@pytest.fixture(scope="module")
def data(prepared: Callable[..., Data]) -> Data:
    return prepared("task=mlm_nsp")


@pytest.fixture(scope="module")
def batch(data: Data) -> Batch:
    """Eight sentence pairs, the longest and the shortest together."""
    order = np.argsort(data.examples.lengths(0))
    return data.examples.batch(0, np.concatenate([order[:4], order[-4:]]))


def test_compiled_layers_compute_the_same_in_one_program(
    small_model: Callable[..., Any], data: Data, batch: Batch
) -> None:
    model = small_model("BertForPreTraining", "model.num_hidden_layers=4")
    objective = Learner(model, data.task.objectives).train()
    keys = list(objective.state_dict())
    eager = computed(objective, batch)
    before = programs()
    with compiling():
        compiled = computed(objective, batch)
    # Embeddings, three layers, the last one, the head, and the loss.
    assert programs() == before + 5
    for ours, theirs in zip(compiled, eager, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert list(objective.state_dict()) == keys


def test_compiled_layers_drop_out(
    small_model: Callable[..., Any], data: Data, batch: Batch
) -> None:
    objective = Learner(
        small_model("BertForPreTraining", "model.dropout=0.5"), data.task.objectives
    ).train()
    for module in list(objective.modules()):
        for name, child in module.named_children():
            if isinstance(child, Dropout):
                # As on a GPU; our own draws for a CPU are not compiled.
                setattr(module, name, nn.Dropout(child.p))
    with compiling():
        losses = torch.stack([objective(batch)["mlm"] for _ in range(3)])
    assert losses.isfinite().all() and len(losses.unique()) == 3


def test_more_shapes_than_torch_compiles_are_no_error(
    small_model: Callable[..., Any], data: Data, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Phases with batches of their own may have as many."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    objective = Learner(small_model("BertForPreTraining"), data.task.objectives).train()
    longest = batch.input_ids_BL.shape[1]
    batches = [batch.padded_to(longest + more) for more in range(10)]
    expected = objective(batch)
    before = programs()
    for each in (*batches, batch):
        with compiling():
            torch.testing.assert_close(objective(each), expected, atol=1e-4, rtol=1e-5)
    # Eight of the embeddings, the layers and the last one; the head has one shape.
    assert programs() == before + 3 * 8 + 2


@pytest.mark.parametrize("processes", [1, 2])
def test_few_shapes_are_few_and_change_no_loss(
    prepared: Callable[..., Data], small_model: Callable[..., Any], processes: int
) -> None:
    data = prepared("task=mlm_nsp")
    plain = BatchPlan(data.examples, 5, 3, 0, processes - 1, processes)
    plan = plain.in_few_shapes(COMPILED_LENGTHS)
    objective = Learner(small_model("BertForPreTraining"), data.task.objectives)
    assert len(plan.shapes) <= COMPILED_LENGTHS
    shapes, lengths = Counter[bool](), set()
    for step in range(2 * plan.steps_per_epoch):
        for before, batch in zip(plain[step], plan[step], strict=True):
            shapes[tuple(batch.input_ids_BL.shape) in plan.shapes] += 1
            lengths.add(before.input_ids_BL.shape[1])
            with torch.no_grad():
                ours, theirs = objective(batch), objective(before)
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)
            # The positions are those of the same tokens; those that fill up come after them.
            positions_N = before.targets["mlm"].positions_N
            assert batch.input_ids_BL.flatten()[
                batch.targets["mlm"].positions_N[: len(positions_N)]
            ].equal(before.input_ids_BL.flatten()[positions_N])
    assert len(lengths) > COMPILED_LENGTHS
    assert shapes[True] > 0.8 * shapes.total()
