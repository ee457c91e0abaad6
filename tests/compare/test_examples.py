"""Two models on the same examples: documents are what was drawn, not their examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertexp.compare import examples
from bertexp.compare.examples import clustered_difference

EXAMPLES = 60


def write(
    folder: Path,
    loss: np.ndarray,
    documents: np.ndarray,
    *,
    rates: tuple[float | None, ...] = (0.15,),
    objective: str = "mlm",
    counts: np.ndarray | None = None,
) -> Path:
    """Write the losses of a model whose examples have the mean ``loss`` at every rate."""
    folder.mkdir()
    count = np.full(len(loss), 4) if counts is None else counts
    parts = [
        pa.table(
            {
                "objective": pa.array([objective] * len(loss)),
                "rate": pa.array([rate] * len(loss), pa.float64()),
                "negatives": pa.array([None if rate else "swap"] * len(loss), pa.string()),
                "weight": np.ones(len(loss)),
                "example": np.arange(len(loss)),
                "document": documents,
                "loss": loss * count * (1 if rate is None else 1 + rate),
                "count": count,
            }
        )
        for rate in rates
    ]
    pq.write_table(pa.concat_tables(parts), folder / "bank_losses.parquet")
    return folder


def width(found: tuple[int, int, float, float | None, float | None] | None) -> float:
    assert found is not None and found[3] is not None and found[4] is not None
    return found[4] - found[3]


def test_examples_of_one_document_are_no_independent_draws(tmp_path: Path) -> None:
    """Six documents of ten identical examples tell as much as six examples do."""
    each = np.random.default_rng(0).normal(size=6)
    alike, zeros = np.repeat(each, 10), np.zeros(60)
    own, shared = np.arange(60), np.repeat(np.arange(6), 10)
    runs = {
        name: write(tmp_path / name, loss, documents)
        for name, loss, documents in (
            *(("own", alike, own), ("own base", zeros, own)),
            *(("shared", alike, shared), ("shared base", zeros, shared)),
            *(("few", each, np.arange(6)), ("few base", np.zeros(6), np.arange(6))),
        )
    }
    found = {
        name: clustered_difference(runs[name], runs[f"{name} base"], "eval/loss")
        for name in ("own", "shared", "few")
    }
    assert found["own"] and found["shared"] and found["few"]
    assert found["own"][:2] == (60, 60) and found["shared"][:2] == (60, 6)
    assert found["own"][2] == pytest.approx(found["shared"][2])
    assert width(found["shared"]) == pytest.approx(width(found["few"]))
    assert width(found["shared"]) > 2.5 * width(found["own"])


def test_rates_count_alike_and_predictions_within_them(tmp_path: Path) -> None:
    loss, counts = np.array([1.0, 3.0]), np.array([1, 3])
    first, second = (
        write(tmp_path / name, values, np.arange(2), rates=(0.15, 0.4), counts=counts)
        for name, values in (("first", loss), ("second", np.zeros(2)))
    )
    mean = 10 / 4
    for metric, expected in (
        ("eval/loss@0.15", 1.15 * mean),
        ("eval/loss@0.4", 1.4 * mean),
        ("eval/loss", (1.15 + 1.4) / 2 * mean),
    ):
        found = clustered_difference(first, second, metric)
        assert found is not None and found[2] == pytest.approx(expected)


def test_pairs_have_no_rate_and_one_document_no_interval(tmp_path: Path) -> None:
    runs = [
        write(tmp_path / str(loss), np.full(5, loss), np.zeros(5), rates=(None,), objective="nsp")
        for loss in (0.5, 0.25)
    ]
    for metric in ("eval/nsp_loss", "eval/loss"):
        assert clustered_difference(*runs, metric) == (5, 1, 0.25, None, None)


@pytest.mark.parametrize("metric", ["eval/accuracy", "eval/loss@0.4", "eval/loss@rare"])
def test_only_losses_that_were_kept_are_compared(tmp_path: Path, metric: str) -> None:
    run = write(tmp_path / "run", np.ones(5), np.arange(5))
    assert clustered_difference(run, run, metric) is None
    # Nor are those of other documents, or of none.
    other = write(tmp_path / "other", np.ones(5), np.arange(5) // 2)
    (tmp_path / "none").mkdir()
    assert clustered_difference(run, other, "eval/loss") is None
    assert clustered_difference(run, tmp_path / "none", "eval/loss") is None


@pytest.mark.parametrize("documents", [2, 5, 20])
def test_the_interval_covers_with_few_documents_of_different_sizes(
    monkeypatch: pytest.MonkeyPatch, documents: int
) -> None:
    """Documents have an effect of their own; the true difference is 0."""
    generator, covered, simulations = np.random.default_rng(documents), 0, 1000
    for _ in range(simulations):
        sizes = np.ceil(generator.lognormal(1.5, 1, documents)).astype(int)
        document = np.repeat(np.arange(documents), sizes)
        own = generator.normal(size=documents)[document] + generator.normal(size=len(document))
        tables = [
            pa.table(
                {
                    **{"example": np.arange(len(own)), "document": document, "loss": loss},
                    **{"count": np.ones(len(own), int), "weight": np.ones(len(own))},
                    **{"rate": np.full(len(own), 0.15), "negatives": [None] * len(own)},
                }
            )
            for loss in (own, np.zeros(len(own)))
        ]
        drawn = iter(tables)
        monkeypatch.setattr(examples, "_rows", lambda *_, drawn=drawn: next(drawn))
        found = clustered_difference(Path(), Path(), "eval/loss")
        assert found and found[3] is not None and found[4] is not None
        covered += found[3] <= 0 <= found[4]
    assert 0.93 <= covered / simulations <= 0.98
