"""The rate over a run, and batches that know it: the same from any number of workers."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bertexp.masking.config import MaskingConfig, ReplaceConfig, ScheduleConfig
from bertexp.masking.masker import Masker
from bertexp.objectives.batch import Batch
from bertexp.training.budget import Budget
from bertexp.training.loading import load_steps
from bertexp.training.plan import BatchPlan, Request
from bertexp.validation import UserError

BERT = ReplaceConfig(mask=0.8, random=0.1, keep=0.1)
RATES = st.floats(0.001, 0.999)


def scheduled(prob: float, name: str, end: float | None, at: float = 0.5) -> MaskingConfig:
    schedule = ScheduleConfig(name=name, end=end, at=at)
    return MaskingConfig(prob=prob, strategy="token", replace=BERT, schedule=schedule)


@given(prob=RATES, end=RATES, at=RATES, progress=st.lists(st.floats(0, 1), min_size=2, max_size=2))
@pytest.mark.parametrize("name", ["linear", "cosine", "step"])
def test_a_schedule_goes_from_prob_to_end_and_never_back(
    name: str, prob: float, end: float, at: float, progress: list[float]
) -> None:
    config = scheduled(prob, name, end, at)
    assert config.rate(0.0) == pytest.approx(prob)
    assert config.rate(1.0) == pytest.approx(end)
    first, second = (config.rate(share) for share in sorted(progress))
    low, high = sorted((prob, end))
    assert low - 1e-12 <= first <= high + 1e-12
    assert (second - first) * (end - prob) >= -1e-12


def test_schedules_at_known_points() -> None:
    assert scheduled(0.3, "constant", None).rate(0.7) == 0.3
    assert scheduled(0.3, "linear", 0.15).rate(0.5) == pytest.approx(0.225)
    assert scheduled(0.3, "cosine", 0.15).rate(0.25) == pytest.approx(0.2780330)
    step = scheduled(0.3, "step", 0.15, 0.6)
    assert [step.rate(share) for share in (0.59, 0.6)] == [0.3, 0.15]


@pytest.mark.parametrize("name", ["linear", "cosine", "step"])
def test_a_rate_goes_through_every_point(name: str) -> None:
    rates = [[0.2, 0.4], [0.5, 0.1], [0.8, 0.6]]
    schedule = ScheduleConfig(name=name, rates=rates)
    config = MaskingConfig(prob=0.15, strategy="token", replace=BERT, schedule=schedule)
    for share, rate in [(0.0, 0.15), *rates, (1.0, 0.6)]:
        assert config.rate(share) == pytest.approx(rate)
    before, between = config.rate(np.nextafter(0.5, 0)), config.rate(0.35)
    assert before == pytest.approx(0.4 if name == "step" else 0.1)
    assert between == pytest.approx(0.4 if name == "step" else 0.25)
    assert config.stages == [0.0, 0.2, 0.5, 0.8]
    # One point at the end is what `end` is.
    alike = [
        ScheduleConfig(name=name, rates=[[0.5 if name == "step" else 1, 0.3]]),
        ScheduleConfig(name=name, end=0.3),
    ]
    one, other = (
        MaskingConfig(prob=0.15, strategy="token", replace=BERT, schedule=each) for each in alike
    )
    assert all(one.rate(share) == other.rate(share) for share in np.linspace(0, 1, 21).tolist())


def test_strategy_and_replacement_change_at_their_shares(lab: Any) -> None:
    """Up to the change the batches are those of one masking, from then on those of the other."""
    only_mask = {"mask": 1.0, "random": 0.0, "keep": 0.0}
    schedule = ScheduleConfig(strategies=[[0.5, "span"]], replacements=[[0.75, only_mask]])
    examples = lab.blocks(lab.masker("token", 0.3, 5, schedule=schedule), 34)
    chosen = np.arange(40)
    for progress, strategy, replace in [
        (0.0, "token", BERT),
        (0.499, "token", BERT),
        (0.5, "span", BERT),
        (0.75, "span", ReplaceConfig(**only_mask)),
        (1.0, "span", ReplaceConfig(**only_mask)),
    ]:
        alone = lab.blocks(lab.masker(strategy, 0.3, 5, replace=replace), 34)
        expected, found = (
            alone.batch(2, chosen),
            examples.remasked(partial(Masker.at, progress=progress)).batch(2, chosen),
        )
        assert found.input_ids_BL.equal(expected.input_ids_BL)
        assert found.targets["mlm"].labels_N.equal(expected.targets["mlm"].labels_N)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"rates": [[0.5, 0.4]]}, "masking.schedule.name=constant: must be one of linear, cosine"),
        ({"name": "linear", "rates": [[0.5, 0.4]], "end": 0.1}, "end=0.1: must be null with rates"),
        ({"name": "step", "rates": [[0.5, 0.4]], "at": 0.3}, "at=0.3: must be left out with rates"),
        ({"name": "linear", "rates": [[0.5, 1.4]]}, "must be rates between 0 and 1"),
        ({"name": "linear", "rates": [0.5, 0.4]}, "must be a list of [share of the budget, value]"),
        ({"name": "linear", "rates": [[0.5, 0.4], [0.5, 0.3]]}, "must be in the order of their"),
        ({"name": "linear", "rates": [[1.5, 0.4]]}, "shares, which are between 0 and 1"),
        ({"strategies": [[0.5, "spam"]]}, "masking.schedule.strategies=spam: must be one of"),
        ({"strategies": [[1, "span"]]}, "must be in the order of their shares"),
        ({"replacements": [[0.5, {"mask": 2, "random": -1, "keep": 0}]]}, "that add up to 1"),
        ({"replacements": [[0.5, {"mask": 1}]]}, "add up to 1; random and keep are missing"),
        (
            {"replacements": [[0.5, {"mask": 1, "random": 1, "keep": 0}]]},
            "mask=1, random=1, keep=0 add up to 2; the shares must",
        ),
    ],
)
def test_what_is_no_schedule_is_refused_in_one_line(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError) as caught:
        ScheduleConfig(**settings)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@given(step=st.integers(0, 10_000), seconds=st.floats(0, 1e5), steps=st.integers(1, 5000))
def test_progress_needs_the_clock_only_where_the_budget_is_time(
    step: int, seconds: float, steps: int
) -> None:
    by_steps = Budget(steps=steps, tokens=None, seconds=None).progress(step, 100.0, seconds)
    assert by_steps == min(1.0, (step + 0.5) / steps)
    by_tokens = Budget(steps=None, tokens=100 * steps, seconds=None).progress(step, 100.0, seconds)
    assert by_tokens == pytest.approx(by_steps)
    by_time = Budget(steps=None, tokens=None, seconds=50.0).progress(step, 100.0, seconds)
    assert by_time == min(1.0, seconds / 50)


@pytest.mark.parametrize("strategy", ["token", "span", "pmi", "frequency"])
def test_workers_batch_sizes_and_resumes_change_no_mask(lab: Any, strategy: str) -> None:
    schedule = ScheduleConfig(
        name="linear",
        rates=[[0.5, 0.1], [1, 0.6]],
        strategies=[[0.4, "whole_word"], [0.8, strategy]],
        replacements=[[0.6, {"mask": 1.0, "random": 0.0, "keep": 0.0}]],
    )
    masker = lab.masker(strategy, 0.3, seed=5, corrupt_prob=0.4, schedule=schedule)
    examples = lab.blocks(masker, 34)

    def progress(step: int) -> float:
        return min(1.0, step / 20)

    def load(workers: int, size: int, several: int, first: int, count: int) -> list[list[Batch]]:
        plan = BatchPlan(examples, size, several, seed=5)
        loader = load_steps(plan, first, workers, torch.device("cpu"), progress)
        return [step for step, _ in zip(loader, range(count), strict=False)]

    whole = load(0, 16, 2, 0, 20)
    rates = [masker.config.rate(progress(step)) for step in range(20)]
    assert [step[0].mask_prob for step in whole] == rates
    assert rates[0] == 0.3 and rates[10] == 0.1
    assert whole[0][0].empty >= 0
    for other in (load(1, 16, 2, 0, 20), load(2, 16, 2, 0, 20)):
        assert seen(other) == seen(whole)
    assert seen(load(2, 16, 2, 13, 7)) == seen(whole[13:])


def test_batch_sizes_change_no_mask(lab: Any) -> None:
    examples = lab.blocks(lab.masker("span", 0.3), 34)
    found = []
    for size in (1, 7, 64):
        plan = BatchPlan(examples, size, 1, seed=5)
        rows: dict[int, list[int]] = {}
        for step in range(plan.steps_per_epoch):
            (batch,) = plan[Request(step, 0.25)]
            for example, row in zip(batch.example_ids.tolist(), batch.input_ids_BL, strict=True):
                rows[example] = [token for token in row.tolist() if token]
        found.append(rows)
    assert found[0] == found[1] == found[2]


def seen(steps: list[list[Batch]]) -> list[Any]:
    return [
        (
            b.example_ids.tolist(),
            b.input_ids_BL.tolist(),
            b.targets["mlm"].labels_N.tolist(),
            b.mask_prob,
        )
        for step in steps
        for b in step
    ]


@settings(deadline=None, max_examples=30)
@given(prob=RATES, seed=st.integers(0, 2**32 - 1))
def test_every_predicted_token_has_a_label(lab: Any, prob: float, seed: int) -> None:
    schedule = ScheduleConfig(name="step", end=prob)
    examples = lab.blocks(lab.masker("span", 0.5, seed, schedule=schedule), 34)
    chosen = np.arange(24)
    batch = examples.remasked(lambda masker: masker.at(0.5)).batch(1, chosen)
    ids = examples.unmasked(chosen)
    masked = examples.masker.mask(ids, chosen, 1, prob)
    assert batch.targets["mlm"].labels_N.tolist() == ids[masked.predicted_BL].tolist()
    assert (batch.maskable, batch.empty) == (masked.maskable, masked.empty)
