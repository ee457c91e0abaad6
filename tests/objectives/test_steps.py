"""A step's loss and gradients, however its examples are divided, for every objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from bertexp.experiment.prepare import Data
from bertexp.objectives.batch import Batch
from bertexp.objectives.learner import Learner
from bertexp.objectives.positions import filled
from bertexp.training.state import Tally
from bertexp.training.step import accumulate_gradients

APART = "task.format=packed task.attention=document"
LOSS = "task.loss.z_loss=0.01 task.loss.label_smoothing=0.1 task.loss.frequency_exponent=0.5"
# By the task, with overrides.
SETTINGS = [
    *("mlm", "nsp", "mlm_nsp", f"mlm {APART} masking=span", "mlm task.format=segment_pairs"),
    *(f"mlm {LOSS} masking=adaptive", "mlm task.pad_to=128 task.format=full_sentences"),
    *("diffusion", f"diffusion {APART} {LOSS}", "diffusion task.diffusion.weighting=none"),
    *("clm", f"clm {APART} {LOSS}", f"mntp {APART} {LOSS} task.mntp.causal_share=0.5"),
    *("mae_lm", f"mae_lm {APART} {LOSS}", "mae_lm task.format=segment_pairs masking=bert"),
    *("rtd", f"rtd {APART} task.rtd.embeddings=gdes task.rtd.depth=0.5"),
]
# It follows its losses from one batch to the next, and what it leaves out depends on their length.
ALL = [*SETTINGS, f"token_dropping {APART} {LOSS} model.num_hidden_layers=4"]

Built = tuple[Learner, Data, Accelerator]


@pytest.fixture
def built(small_model: Callable[..., Any], prepared: Callable[..., Data]) -> Callable[[str], Built]:
    def build(setting: str) -> Built:
        task, *own = setting.split()
        data = prepared(f"task={task}", *own)
        sizes = [each for each in own if each.startswith("model.")]
        model = small_model(data.task.heads, *sizes)
        AcceleratorState._reset_state(reset_partial_state=True)
        return Learner(model, data.task.objectives), data, Accelerator(cpu=True)

    return build


def gradients(learner: Learner) -> dict[str, torch.Tensor]:
    found = {n: p.grad.clone() for n, p in learner.named_parameters() if p.grad is not None}
    learner.zero_grad()
    return found


def padded(batch: Batch) -> Batch:
    return batch.padded_to(batch.input_ids_BL.shape[1] + 5)


@pytest.mark.parametrize("setting", SETTINGS)
def test_it_is_the_same_in_several_batches(built: Callable[[str], Built], setting: str) -> None:
    learner, data, accelerator = built(setting)
    weights, examples = data.task.weights, np.arange(12)

    def computed(*batches: Batch) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
        totals = Tally.of([*batches], 0).predictions
        found = accumulate_gradients(learner, accelerator, [*batches], weights, totals)
        return {name: loss.item() for name, loss in found.items()}, gradients(learner)

    whole = data.examples.batch(0, examples)
    expected, at_once = computed(whole)
    assert expected.keys() == weights.keys()
    assert any(gradient.abs().max() > 1e-4 for gradient in at_once.values())
    # Of different sizes: a mean of means would not do. One has no example of this process.
    parts = [data.examples.batch(0, part) for part in np.split(examples, [1, 8])]
    ways = [[*parts, parts[0].idle()], [padded(part) for part in parts]]
    if all(head.is_recordable for head in learner.heads.values()):
        ways.append([filled(part) for part in parts])
    for batches in ways:
        losses, found = computed(*batches)
        assert losses == pytest.approx(expected, rel=1e-4, abs=1e-5)
        assert found.keys() == at_once.keys()
        for name, gradient in at_once.items():
            torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize("setting", ALL)
def test_a_batch_without_examples_teaches_nothing(
    built: Callable[[str], Built], setting: str
) -> None:
    learner, data, accelerator = built(setting)
    before = {name: buffer.clone() for name, buffer in learner.named_buffers()}
    whole = data.examples.batch(0, np.arange(2))
    assert any(whole.predictions.values())
    batch = whole.idle()
    tally = Tally.of([batch], 0)
    losses = accumulate_gradients(
        learner, accelerator, [batch], data.task.weights, tally.predictions
    )
    assert not any(tally.predictions.values())
    assert not any(vars(replace(tally, positions=0, predictions={})).values())
    assert {name: float(loss) for name, loss in losses.items()} == dict.fromkeys(losses, 0.0)
    found = gradients(learner)
    trained = {name for name, each in learner.named_parameters() if each.requires_grad}
    assert found.keys() == trained, "all take part, or processes would wait for each other"
    assert not any(gradient.any() for gradient in found.values())
    for name, buffer in learner.named_buffers():
        assert buffer.equal(before[name]), name
