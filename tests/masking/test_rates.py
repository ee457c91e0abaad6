"""A rate for each example: drawn from what was set, realised, nested, and truthfully reported."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bertexp.masking.config import DRAWS, MaskingConfig, ReplaceConfig
from bertexp.objectives.audit import audit
from bertexp.training.plan import BatchPlan
from bertexp.validation import UserError

BERT = ReplaceConfig(mask=0.8, random=0.1, keep=0.1)
LAWS: list[tuple[dict[str, Any], Any]] = [
    ({"distribution": "uniform", "low": 0, "high": 1}, stats.uniform()),
    ({"distribution": "uniform", "low": 0.1, "high": 0.5}, stats.uniform(0.1, 0.4)),
    ({"distribution": "beta", "alpha": 2, "beta": 5}, stats.beta(2, 5)),
]
CHOICE = {"distribution": "choice", "rates": [0.15, 0.4, 0.8], "shares": [0.5, 0.3, 0.2]}


@pytest.mark.parametrize(("law", "expected"), LAWS)
@pytest.mark.parametrize("draw", DRAWS)
def test_every_example_has_its_own_rate_and_realises_it(
    lab: Any, law: dict[str, Any], expected: Any, draw: str
) -> None:
    ids, examples = np.full((4000, 66), 7), np.arange(4000)
    masked = lab.masker("token", law, draw=draw, at_least_one=False).mask(ids, examples, epoch=2)
    assert stats.kstest(masked.rates_B, expected.cdf).pvalue > 1e-6
    assert masked.prob == pytest.approx(masked.rates_B.mean())
    counts_B = masked.predicted_BL.sum(1)
    error = np.sqrt(masked.rates_B * (1 - masked.rates_B) / 66) if draw == "independent" else 1 / 66
    assert (np.abs(counts_B / 66 - masked.rates_B) <= 6 * error + 1e-9).all()
    assert counts_B.mean() / 66 == pytest.approx(expected.mean(), abs=0.02)
    again = lab.masker("token", law, draw=draw, at_least_one=False).mask(
        ids[:50], examples[100:150], epoch=2
    )
    assert (again.rates_B == masked.rates_B[100:150]).all()
    assert (again.input_ids_BL == masked.input_ids_BL[100:150]).all()


def test_a_choice_of_rates_has_its_shares(lab: Any) -> None:
    masked = lab.masker("token", CHOICE).mask(np.full((8000, 5), 7), np.arange(8000), 0)
    values, counts = np.unique(masked.rates_B, return_counts=True)
    assert values.tolist() == CHOICE["rates"]
    assert stats.chisquare(counts, 8000 * np.array(CHOICE["shares"])).pvalue > 1e-6


def test_stratified_batches_have_all_rates_and_change_no_mask(lab: Any) -> None:
    law, size = {"distribution": "uniform", "low": 0.001, "high": 1}, 32
    rates = []
    for stratified in (False, True):
        examples = lab.blocks(lab.masker("token", law | {"stratified": stratified}), 12)
        plan, ids = BatchPlan(examples, size, 1, seed=5), np.arange(len(examples))
        steps = range(3 * plan.steps_per_epoch)
        batches = [
            batch for step in steps for batch in plan[step] if len(batch.example_ids) == size
        ]
        for batch in batches[:5]:
            again = lab.blocks(lab.masker("token", law), 12).batch(0, batch.example_ids)
            assert (batch.input_ids_BL == again.input_ids_BL).all()
        written = examples.unmasked(ids[:1])
        of_epoch = [
            examples.masker.mask(np.repeat(written, len(ids), 0), ids, epoch).rates_B
            for epoch in range(3)
        ]
        assert stats.kstest(of_epoch[0], stats.uniform(0.001, 0.999).cdf).pvalue > 1e-6
        per_epoch = len(batches) // 3
        rates.append(
            np.stack([of_epoch[n // per_epoch][each.example_ids] for n, each in enumerate(batches)])
        )
    alone, together = rates
    assert together.mean(1).var() < alone.mean(1).var() / 10
    # The weights of masked diffusion.
    assert (1 / together).mean(1).var() < (1 / alone).mean(1).var()


@pytest.mark.parametrize("strategy", ["token", "span", "frequency"])
@settings(deadline=None, max_examples=20)
@given(low=st.floats(0, 0.4), width=st.floats(0.05, 0.3), more=st.floats(0, 0.3))
def test_higher_rates_mask_more_of_the_same(
    lab: Any, strategy: str, low: float, width: float, more: float
) -> None:
    ids = lab.padded(lab.texts[:20])

    def masks(low: float) -> Any:
        law = {"distribution": "uniform", "low": low, "high": low + width}
        return lab.masker(strategy, law).mask(ids, np.arange(20), 0).predicted_BL

    assert not (masks(low) & ~masks(low + more)).any()


def test_the_audit_measures_what_is_requested_of_these_sequences(lab: Any) -> None:
    found = audit(
        lab.blocks(lab.masker("whole_word", LAWS[0][0], draw="budget", at_least_one=False), 102)
    )
    assert 0.4 < found.requested < 0.6
    assert found.realised == pytest.approx(found.requested, rel=0.01)
    assert not found.differs


@pytest.mark.parametrize(
    ("prob", "reason"),
    [
        (0, "a number above 0 and at most 1, or a distribution such as {"),
        ("ten", "a number above 0 and at most 1, or a distribution such as {"),
        ({"distribution": "unifrom"}, "Did you mean 'uniform'"),
        ({"low": 0}, "masking.prob.distribution: is missing; set one of uniform, beta, choice"),
        ({"distribution": "uniform", "low": 0.4}, "distribution=uniform needs high too"),
        ({"distribution": "beta"}, "distribution=beta needs alpha and beta too"),
        ({"distribution": "beta", "alpa": 1}, "has no alpa; its keys are"),
        ({"distribution": "choice", "values": [1], "weights": [1]}, "no values and no weights;"),
        ({**LAWS[0][0], "stratified": 1}, "masking.prob.stratified=1: must be true or false"),
        ({"distribution": "uniform", "low": 0.4, "high": 0.1}, "prob.high=0.1: must be above"),
        ({"distribution": "uniform", "low": "a", "high": 1}, "must be numbers"),
        ({"distribution": "beta", "alpha": 0, "beta": 1}, "alpha=0: must be above 0"),
        ({"distribution": "choice", "rates": [], "shares": []}, "a list of numbers"),
        ({"distribution": "choice", "rates": [0.5, 0.1], "shares": [0.5, 0.5]}, "ascending"),
        ({"distribution": "choice", "rates": [0.1], "shares": [0.5]}, "add up to 1"),
    ],
)
def test_what_is_no_rate_is_refused_in_one_line(prob: Any, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        MaskingConfig(prob=prob, strategy="token", replace=BERT)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
