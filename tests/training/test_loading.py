"""The processes that make the batches of a run on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bertexp.experiment.prepare import Data
from bertexp.objectives.vocabulary_loss import AdaptiveRates
from bertexp.training.graphs import shape_of, tensors_of
from bertexp.training.loading import Packed, gpu_workers, load_steps
from bertexp.training.plan import RECORDED_LENGTHS, BatchPlan, Request


@pytest.mark.parametrize(("cores", "workers"), [(0, 0), (1, 0), (2, 1), (4, 3), (16, 4)])
def test_a_core_is_left_for_the_run_itself(cores: int, workers: int) -> None:
    assert gpu_workers(cores) == workers


class Elsewhere:
    """In place of a GPU; what is sent to it stays here."""

    type = "cuda"


def test_steps_that_others_make_for_a_gpu_are_those_of_the_plan(
    prepared: Callable[..., Data], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where their masks follow the losses of the steps before."""
    data = prepared("task=mlm", "masking=adaptive", "masking.adaptive.every=12")
    plan = BatchPlan(data.examples, 4, 2, 0, packs=True).in_few_shapes(RECORDED_LENGTHS)
    rates = AdaptiveRates(data.tokenizer.vocab_size, data.task.objectives[0].follows)
    send, device = Packed.to, Elsewhere()
    monkeypatch.setattr(Packed, "to", lambda packed, _: send(packed, torch.device("cpu")))
    given: Any = {"num_workers": 2, "device": device, "rates": rates}
    steps = load_steps(plan, 0, **given)
    for number in range(30):
        step = next(steps)
        own = plan[Request(number, 0.0, rates.table())]
        assert shape_of(step) == shape_of(own)
        for ours, theirs in zip(tensors_of(step), tensors_of(own), strict=True):
            assert ours.equal(theirs)
        rates.counts_V += 1
        rates.sums_V += torch.arange(len(rates.sums_V)) << 8
    assert rates.table().std() > 0.1
