"""The one table of metrics, and what reads it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from bertexp import metrics
from bertexp.experiment.report import evaluation_line


@pytest.fixture(autouse=True)
def _table() -> Iterator[None]:
    before = dict(metrics.METRICS)
    yield
    metrics.METRICS.clear()
    metrics.METRICS.update(before)


@pytest.mark.parametrize(
    ("name", "best", "unit"),
    [
        ("eval/loss", "min", "nats"),
        ("eval/loss@0.4", "min", "nats"),
        ("eval/pseudo_perplexity", "min", ""),
        ("eval/bits_per_byte", "min", "bits/byte"),
        ("eval/bits_per_byte@spelling", None, "bits/byte"),
        ("eval/bits_per_byte@pieces", None, "bits/byte"),
        ("eval/nsp_calibration_error", "min", ""),
        ("eval/nsp_accuracy@swap", "max", ""),
        ("eval/f1", "max", ""),
        ("finetune/rte/matthews", "max", ""),
        ("eval/probe/loss", "max", ""),
        ("train/loss", None, "nats"),
        ("eval/unheard_of", None, ""),
    ],
)
def test_every_metric_has_a_row(name: str, best: str | None, unit: str) -> None:
    row = metrics.describe(name)
    assert (row.best, row.unit) == (best, unit)


def test_names_count_before_patterns_and_patterns_before_endings() -> None:
    metrics.register("bits", unit="bits", lower_is_better=True)
    metrics.register("eval/lab/*", unit="a pattern's")
    metrics.register("eval/lab/bits", unit="its own", line=True)
    units = [metrics.describe(f"eval/{name}").unit for name in ("x_bits@1", "lab/y", "lab/bits")]
    assert units == ["bits", "a pattern's", "its own"]


def test_a_row_of_a_plugin_is_read_without_the_plugin() -> None:
    metrics.register("eval/bits", unit="bits", lower_is_better=True, low=0.0, comparison=True)
    row = metrics.describe("eval/bits")
    kept = metrics.own_rows(["eval/bits", "eval/loss", "eval/probe/package"])
    assert [*kept] == ["eval/bits"]
    del metrics.METRICS["eval/bits"]
    metrics.register_rows(kept)
    assert metrics.describe("eval/bits") == row


def test_the_least_cost_is_the_best_and_nothing_is_guessed() -> None:
    assert metrics.cost("eval/loss", 2.0) < metrics.cost("eval/loss", 3.0)
    assert metrics.cost("eval/f1", 0.9) < metrics.cost("eval/f1", 0.8) < math.inf
    assert metrics.cost("eval/pearson", math.nan) == math.inf
    with pytest.raises(ValueError, match="eval/unheard_of"):
        metrics.cost("eval/unheard_of", 1.0)


def test_training_prints_what_the_table_says() -> None:
    found = {"eval/nsp_loss": 0.7, "eval/accuracy": 0.5, "eval/loss@0.15": 1.0, "eval/loss": 2.0}
    assert evaluation_line(7, found) == "step 7 · eval/loss 2.000 · eval/accuracy 0.500"
    metrics.register("eval/bits", lower_is_better=True, line=True)
    assert evaluation_line(None, {"eval/bits": 3.0}) == "eval/bits 3.000"
