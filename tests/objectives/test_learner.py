"""Losses at predicted positions only, against the whole models of transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, mm_flop

from bertexp.config import Config
from bertexp.data.tokens.store import TokenStore
from bertexp.experiment.prepare import Data
from bertexp.families.build import build_model
from bertexp.objectives.batch import Batch
from bertexp.objectives.learner import Learner, count_parameters
from bertexp.training.state import Tally, Window
from bertexp.training.step import accumulate_gradients

CLASSES = {
    "mlm": "BertForMaskedLM",
    "nsp": "BertForNextSentencePrediction",
    "mlm_nsp": "BertForPreTraining",
}


def dense_labels(batch: Batch) -> dict[str, torch.Tensor]:
    """Return the labels as transformers wants them: -100 wherever nothing is predicted."""
    if "mlm" not in batch.targets:
        return {"labels": batch.targets["nsp"].labels_N}
    labels = torch.full((batch.input_ids_BL.numel(),), -100)
    labels[batch.targets["mlm"].positions_N] = batch.targets["mlm"].labels_N
    found = {"labels": labels.view_as(batch.input_ids_BL)}
    return (
        found
        if "nsp" not in batch.targets
        else found | {"next_sentence_label": batch.targets["nsp"].labels_N}
    )


def in_float32() -> Accelerator:
    """Return an accelerator that inherits no precision from one before."""
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=True, mixed_precision="no")


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert any(gradient.abs().max() > 1e-3 for gradient in theirs.values())
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize("task", CLASSES)
def test_loss_and_gradients_are_those_of_transformers(
    small_model: Callable[..., Any], prepared: Callable[..., Data], task: str
) -> None:
    data = prepared(f"task={task}")
    model = small_model(CLASSES[task])
    lengths = data.examples.lengths(0)
    # The longest and the shortest together, so that there is padding.
    order = np.argsort(lengths)
    batch = data.examples.batch(0, np.concatenate([order[:4], order[-4:]]))
    assert batch.attention_mask_BL is not None
    sums = Learner(model, data.task.objectives)(batch)
    ours = sum(sums[name] / count for name, count in batch.predictions.items())
    ours.backward()
    our_gradients = gradients(model)
    theirs = model(
        input_ids=batch.input_ids_BL,
        attention_mask=batch.attention_mask_BL,
        token_type_ids=batch.token_type_ids_BL,
        **dense_labels(batch),
    ).loss
    theirs.backward()
    assert tuple(sums) == tuple(one.name for one in data.task.objectives)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
    same(our_gradients, gradients(model))


@pytest.mark.slow
def test_the_weight_of_pairs_is_that_of_their_gradients(
    small_model: Callable[..., Any], prepared: Callable[..., Data]
) -> None:
    model = small_model("BertForPreTraining")
    found = {}
    for weight in (0.5, 1.0, 2.0):
        data = prepared("task=mlm_nsp", f"task.weights.nsp={weight}")
        batches = [data.examples.batch(0, np.arange(8))]
        objective = Learner(model, data.task.objectives)
        totals = Tally.of(batches, 0).predictions
        losses = accumulate_gradients(objective, in_float32(), batches, data.task.weights, totals)
        found[weight] = losses, gradients(model)
    assert found[0.5][0] == found[2.0][0], "losses are shown as they are"
    for name, half in found[0.5][1].items():
        # Linear in the weight: one is two thirds of half and one third of two.
        expected = half * 2 / 3 + found[2.0][1][name] / 3
        torch.testing.assert_close(found[1.0][1][name], expected, atol=1e-6, rtol=1e-4, msg=name)
    heads = [name for name in found[1.0][1] if name.startswith("cls.seq_relationship")]
    assert len(heads) == 2
    for name in heads:
        torch.testing.assert_close(found[2.0][1][name], 4 * found[0.5][1][name])


def test_a_step_without_a_prediction_changes_nothing(
    small_model: Callable[..., Any],
    prepared: Callable[..., Data],
    experiment_config: Callable[..., Config],
) -> None:
    """A batch of text that is all [UNK] has none: its loss must not be 0 / 0."""
    data = prepared()
    model = small_model("BertForMaskedLM")
    unknown = np.full(3, data.tokenizer.unk_id, dtype=np.uint16)
    ends = np.array([0, 1])
    text = TokenStore(unknown, np.array([0, 3]), ends, ends, "made for a test")
    batch = data.task.examples(text).batch(0, np.arange(1))
    assert batch.predictions == {"mlm": 0}
    objective = Learner(model, data.task.objectives)
    losses = accumulate_gradients(
        objective, in_float32(), [batch], data.task.weights, batch.predictions
    )
    assert losses["mlm"].item() == 0
    assert all(torch.isfinite(gradient).all() for gradient in gradients(model).values())


@pytest.mark.parametrize("task", CLASSES)
@pytest.mark.parametrize("size", ["model=tiny", "model=mini"])
def test_counted_operations_are_those_that_torch_counts(
    small_model: Callable[..., Any], prepared: Callable[..., Data], task: str, size: str
) -> None:
    data = prepared(f"task={task}")
    model = small_model(CLASSES[task], size)
    batch = data.examples.batch(0, np.arange(8))
    # torch does not count products that are added in place.
    in_place = {torch.ops.aten.addmm_: lambda _, left, right, **__: mm_flop(left, right)}
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        learner = Learner(model, data.task.objectives)
        sum(learner(batch).values()).backward()
    assert learner.flops(batch) == pytest.approx(counter.get_total_flops(), rel=0.001)


def test_shared_weights_count_once(small_model: Callable[..., Any]) -> None:
    model = small_model("BertForMaskedLM")
    stored = {parameter.data_ptr(): parameter.numel() for parameter in model.parameters()}
    assert count_parameters(model) == sum(stored.values()) == model.num_parameters()


class Waits(TorchDispatchMode):
    """Names the operations for which a GPU would be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        aten = torch.ops.aten
        reads = func in (aten._local_scalar_dense.default, aten.nonzero.default)
        # A scalar is a tensor on the CPU, which `where` copies to where the others are.
        copies = func is aten.where.self and any(each.ndim == 0 for each in args)
        if reads or copies:
            self.found.add(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("task", "family"), [("mlm_nsp", "bert"), ("mntp", "bert"), ("mlm", "deberta_v2")]
)
def test_no_step_waits_for_a_gpu(
    experiment_config: Callable[..., Config],
    prepared: Callable[..., Data],
    task: str,
    family: str,
) -> None:
    data = prepared(f"task={task}")
    batches = [data.examples.batch(0, np.arange(8))]
    window, tally = Window(data.task.weights), Tally.of(batches, flops=0)
    config = experiment_config(f"family={family}", "model.hidden_size=16")
    heads = data.task.heads
    model = build_model(config.family, config.model, heads, data.tokenizer, 128, 0)
    objective, accelerator = Learner(model, data.task.objectives).train(), in_float32()
    # What is computed once, in the first step.
    accumulate_gradients(objective, accelerator, batches, data.task.weights, tally.predictions)
    with Waits() as waits:
        losses = accumulate_gradients(
            objective, accelerator, batches, data.task.weights, tally.predictions
        )
        norm = accelerator.clip_grad_norm_(objective.parameters(), 1.0)
        window.add(losses, torch.isfinite(norm), tally, seconds=1.0)
    assert not waits.found
    with waits:
        window.metrics()
    assert waits.found, "what is logged is read"
