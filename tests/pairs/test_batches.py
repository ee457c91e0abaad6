"""Batches of pairs: balanced, little padding, the same for any number of workers, resumable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bertexp.config import Config
from bertexp.experiment.prepare import Data
from bertexp.objectives.pair_examples import PairExamples
from bertexp.training.loading import load_steps
from bertexp.training.plan import BatchPlan

from .conftest import numbered

CPU = torch.device("cpu")


def corpus(documents: int) -> list:
    generator = np.random.default_rng(1)
    return numbered([[generator.integers(2, 20, 5).tolist()] * 4 for _ in range(documents)])


@settings(deadline=None, max_examples=60)
@given(
    documents=st.integers(3, 60), half=st.integers(1, 24), epoch=st.integers(0, 5),
    next_prob=st.floats(0.1, 0.9), mixed=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_every_batch_and_every_part_of_it_has_the_share_that_follows(
    build: Callable[..., PairExamples], documents: int, half: int, epoch: int, next_prob: float,
    mixed: bool, seed: int,
) -> None:  # fmt: skip
    kinds = {"other_document": 0.5, "swap": 0.5} if mixed else "other_document"
    for prob, most in ((0.5, 0 if not mixed else 2), (next_prob, 2)):
        examples = build(corpus(documents), next_prob=prob, negatives=kinds, seed=seed)
        plan = BatchPlan(examples, 4 * half, 1, seed)
        labels = examples.drawer.pairs(epoch).labels
        assert abs((labels == 0).sum() - prob * len(labels)) <= 0.5
        for batch in plan._epoch_batches(epoch)[:-1]:
            if len(batch) < 4 * half:
                continue
            # What one process, each of two and each of four see.
            for parts in (1, 2, 4):
                for part in np.split(batch, parts):
                    if parts < 4 or half % 2 == 0:
                        assert abs((labels[part] == 0).sum() - prob * len(part)) <= most + 1e-9


@pytest.mark.parametrize("task", ["nsp", "sop", "mlm_nsp"])
def test_batches_do_not_depend_on_workers_and_go_on_from_any_step(
    prepared: Callable[..., Data], task: str
) -> None:
    examples = prepared(f"task={task}", "task.segments=fill", "task.max_length=64").examples

    def batches(workers: int, first: int = 0) -> list[Any]:
        plan = BatchPlan(examples, batch_size=7, batches_per_step=2, seed=5)
        loader = load_steps(plan, first, workers, CPU)
        count = 3 * plan.steps_per_epoch
        steps = [step for step, _ in zip(loader, range(first, count), strict=False)]
        return [
            [
                (
                    b.example_ids.tolist(),
                    b.input_ids_BL.tolist(),
                    b.targets["nsp"].labels_N.tolist(),
                )
                for b in s
            ]
            for s in steps
        ]

    whole = batches(0)
    assert len({str(step) for step in whole}) == len(whole)
    assert batches(1) == whole
    assert batches(2) == whole
    for first in (1, len(whole) // 2, len(whole) - 1):
        assert batches(2, first) == whole[first:]


def test_masked_pairs_are_the_pairs_with_masks(
    prepared: Callable[..., Data], experiment_config: Callable[..., Config]
) -> None:
    overrides = ("task.segments=fill", "seed=3")
    masked = prepared("task=mlm_nsp", *overrides).examples
    written = prepared("task=nsp", *overrides).examples
    assert masked.lengths(2).tolist() == written.lengths(2).tolist()
    chosen = np.arange(20)
    batch, truth = masked.batch(2, chosen), written.batch(2, chosen)
    ids = truth.input_ids_BL.flatten()
    assert torch.equal(batch.targets["mlm"].labels_N, ids[batch.targets["mlm"].positions_N])
    assert (batch.targets["mlm"].labels_N > 4).all(), (
        "no [CLS], no [SEP] of either segment, no padding"
    )
    others = torch.ones(len(ids), dtype=torch.bool)
    others[batch.targets["mlm"].positions_N] = False
    assert torch.equal(batch.input_ids_BL.flatten()[others], ids[others])
    assert torch.equal(batch.token_type_ids_BL, truth.token_type_ids_BL)
    assert torch.equal(batch.targets["nsp"].labels_N, truth.targets["nsp"].labels_N)
    assert (batch.queries_BP[:, 0] == 0).all(), "[CLS] comes first, the pairs' head reads it"
    width = ids.numel() // 20
    used = batch.queries_BP.flatten()[batch.slots_U]
    rows = batch.slots_U // batch.queries_BP.shape[1]
    predicted = (rows * width + used)[: len(batch.targets["mlm"].positions_N)]
    assert torch.equal(predicted, batch.targets["mlm"].positions_N)
    assert torch.equal(rows[-20:], torch.arange(20)) and (used[-20:] == 0).all()
    assert batch.predictions == {"mlm": len(batch.targets["mlm"].labels_N), "nsp": 20}


def test_examples_are_padded_to_where_they_are_asked_to(prepared: Callable[..., Data]) -> None:
    for task in ("mlm", "nsp", "mlm_nsp"):
        padded = prepared(f"task={task}", "task.pad_to=200")
        batch = padded.examples.batch(0, np.arange(5))
        plain = prepared(f"task={task}").examples.batch(0, np.arange(5))
        width = plain.input_ids_BL.shape[1]
        assert batch.input_ids_BL.shape == (5, 200)
        assert torch.equal(batch.input_ids_BL[:, :width], plain.input_ids_BL)
        assert (batch.input_ids_BL[:, width:] == padded.tokenizer.pad_id).all()
        assert batch.attention_mask_BL.sum() == batch.tokens == plain.tokens
        # What a model is asked does not change with it.
        assert (
            padded.bank.reference.fingerprints
            == prepared(f"task={task}").bank.reference.fingerprints
        )
