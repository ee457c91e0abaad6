"""The audit: figures of what was done, and a warning where it is not what was asked for."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertexp.masking import STRATEGIES
from bertexp.masking.strategies import Strategy, WordStrategy
from bertexp.objectives.audit import LONGEST_RUN, audit, run_lengths


def examples(lab: Any, strategy: str, prob: float, length: int = 34, **config: Any) -> Any:
    masker = lab.masker(strategy, prob, **config)
    return lab.blocks(masker, length)


@pytest.mark.parametrize("strategy", STRATEGIES.names())
def test_figures_are_those_of_the_masks(lab: Any, strategy: str) -> None:
    blocks = examples(lab, strategy, 0.3, 102)
    found = audit(blocks)
    ids = blocks.unmasked(np.arange(len(blocks)))
    masked = blocks.masker.mask(ids, np.arange(len(blocks)), 0)
    # All examples are among the audited ones.
    assert found.sequences == len(blocks) == 200
    predicted = masked.predicted_BL.sum()
    assert found.realised == predicted / masked.maskable
    assert not found.differs
    assert found.mask + found.random + found.keep == pytest.approx(1)
    assert found.mask == (masked.input_ids_BL == lab.mask_id).sum() / predicted
    assert found.only_corrupted == 0
    if issubclass(STRATEGIES[strategy], WordStrategy):
        assert found.whole_words == 1.0
    if strategy == "token":
        assert found.whole_words < 1.0
    assert found.empty == masked.empty
    if LONGEST_RUN not in found.runs:
        assert sum(size * count for size, count in found.runs.items()) == predicted


def test_the_error_is_the_spread_of_the_rate_over_seeds(lab: Any) -> None:
    found = [audit(examples(lab, "span", 0.3, 102, seed=seed)) for seed in range(40)]
    spread = np.std([one.realised for one in found])
    assert spread == pytest.approx(np.mean([one.error for one in found]), rel=0.4)


def test_corruption_apart_from_prediction_shows(lab: Any) -> None:
    found = audit(examples(lab, "token", 0.2, 102, corrupt_prob=0.6))
    assert found.only_corrupted == pytest.approx(0.4 * 0.9, abs=0.03)
    fewer = audit(examples(lab, "token", 0.6, 102, corrupt_prob=0.3))
    assert (fewer.only_corrupted, fewer.keep) == (0, pytest.approx(0.55, abs=0.03))


def test_a_rate_that_is_not_realised_is_reported(
    lab: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        audit(examples(lab, "token", 0.3, 102)).warn()
        assert not caplog.records
        assert not audit(examples(lab, "token", 0.01, 10)).differs
        found = audit(examples(lab, "token", 0.01, 10, at_least_one=True))
        found.warn()
    (record,) = caplog.records
    assert found.empty > 500
    assert f"{found.empty} of 640 sequences" in record.message
    assert "1.00%" in record.message
    assert "\n" not in record.message


def test_a_strategy_that_misses_the_rate_is_told(lab: Any) -> None:
    class Twice(Strategy):
        def begins(self, ids_BL: Any, maskable_BL: Any, states_B: Any) -> Any:
            return np.ones(ids_BL.shape, dtype=bool)

        def threshold(self, prob: float) -> float:
            return 1.1 * prob

    STRATEGIES.register("twice")(Twice)
    try:
        assert audit(examples(lab, "twice", 0.3, 102)).differs
    finally:
        del STRATEGIES._builders["twice"]


@given(
    rows=st.integers(1, 12).flatmap(
        lambda width: st.lists(
            st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=5
        )
    )
)
def test_runs_end_with_their_row(rows: list[list[bool]]) -> None:
    text = "|".join("".join("x" if hit else " " for hit in row) for row in rows)
    expected = [len(run) for run in text.replace("|", " ").split()]
    assert run_lengths(np.array(rows)).tolist() == expected
