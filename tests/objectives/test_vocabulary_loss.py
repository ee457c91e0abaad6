"""What ``task.loss.*`` adds to the loss of masked tokens, against the formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from bertexp.experiment.prepare import Data
from bertexp.objectives.learner import Learner
from bertexp.training.state import Tally, Window

LOSS = ("z_loss=0.01", "label_smoothing=0.2", "frequency_exponent=0.5")
ALL = tuple(f"task.loss.{each}" for each in LOSS)


@pytest.mark.parametrize("task", ["mlm", "diffusion"])
def test_the_loss_is_that_of_the_formulas(
    prepared: Callable[..., Data], small_model: Callable[..., Any], task: str
) -> None:
    data = prepared(f"task={task}", *ALL)
    model, chosen = small_model("BertForMaskedLM"), np.arange(12)
    batch = data.examples.batch(1, chosen)
    found = Learner(model, data.task.objectives)(batch)
    target = batch.targets[task]
    logits_BLV = model(batch.input_ids_BL, attention_mask=batch.attention_mask_BL).logits
    logits_NV = logits_BLV.flatten(0, 1)[target.positions_N]
    plain_N = functional.cross_entropy(logits_NV, target.labels_N, reduction="none")
    smooth_N = functional.cross_entropy(
        logits_NV, target.labels_N, reduction="none", label_smoothing=0.2
    )
    z_N = 0.01 * logits_NV.exp().sum(-1).log() ** 2
    ids = np.asarray(data.tokens["train"].tokens)
    ids = ids[~data.tokenizer.is_special_V[ids]]
    frequency_V = np.bincount(ids, minlength=data.tokenizer.vocab_size).astype(float)
    every = frequency_V[ids] ** -0.5
    weights_N = torch.tensor(frequency_V[target.labels_N] ** -0.5 / every.mean())
    own_N = torch.ones(len(target)) if target.weights_N is None else target.weights_N
    both_N = weights_N * own_N
    expected = {
        task: (both_N * (smooth_N + z_N)).sum(),
        f"{task}/cross_entropy": (own_N * plain_N).sum(),
        f"{task}/z_loss": (both_N * z_N).sum(),
    }
    assert found.keys() == expected.keys() == data.task.weights.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name].double(), value.double(), rtol=1e-5, atol=1e-4)
        assert data.task.weights[name] == float(name == task)
    assert found[task].requires_grad
    assert not found[f"{task}/cross_entropy"].requires_grad


def test_evaluation_knows_nothing_of_it(prepared: Callable[..., Data]) -> None:
    plain, changed = prepared("task=mlm"), prepared("task=mlm", *ALL)
    assert plain.bank.reference.fingerprints == changed.bank.reference.fingerprints
    targets = [each.targets["mlm"] for part in changed.bank.all_sets for each in part.batches]
    assert all(target.token_weights_N is None for target in targets)


def test_parts_are_logged_beside_the_loss() -> None:
    """With the objective's name only where there are several, as for losses."""
    good, tally = torch.tensor(True), Tally(tokens=2, positions=2)
    losses = {"mlm": 3.0, "mlm/cross_entropy": 2.0, "mlm/z_loss": 0.5, "nsp": 1.0}
    weights = {"mlm": 1.0, "mlm/cross_entropy": 0.0, "mlm/z_loss": 0.0, "nsp": 2.0}
    for names, expected in (
        ([*losses][:3], {"loss": 3.0, "cross_entropy": 2.0, "z_loss": 0.5}),
        (
            [*losses],
            {"loss": 5.0, "mlm_loss": 3.0, "mlm_cross_entropy": 2.0, "mlm_z_loss": 0.5}
            | {"nsp_loss": 1.0},
        ),
    ):
        window = Window({name: weights[name] for name in names})
        window.add({name: torch.tensor(losses[name]) for name in names}, good, tally, 1.0)
        logged = {k.removeprefix("train/"): v for k, v in window.metrics().items()}
        speeds = {"tokens_per_second": 2.0, "padding": 0.0}
        assert logged == expected | speeds
