"""Two models on the same examples: how far their losses differ."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtrit

from bertexp.compare.statistics import ALPHA
from bertexp.evaluation import LOSSES_FILE

if TYPE_CHECKING:
    import pyarrow as pa

LOSS = re.compile(r"eval/(?:(?P<objective>[a-z]+)_)?loss(?:@(?P<condition>.+))?")


def clustered_difference(
    first: Path, second: Path, metric: str, objective: str | None = None
) -> tuple[int, int, float, float | None, float | None] | None:
    """Return how much higher the first run's loss is than the second's, with its 95% interval.

    Examples of one document are no independent draws, so the interval is over documents, the
    same for both models and under all conditions: a cluster jackknife, with the effective number
    of documents for degrees of freedom (Carter, Schnepel and Steigerwald 2017). It covers with
    two documents as with many; a percentile bootstrap of two covers half the time. As in the
    metric, the mean loss per prediction is taken at each mask rate, or with each kind of
    negatives, and then over these by their weights.

    Args:
        first, second: the runs' folders; their banks are the same.
        objective: whose loss it is if its name does not tell; by default the first one's.

    Returns:
        The number of examples and of documents, the difference and the ends of its interval,
        which are None for a single document; or None where there are no such losses.
    """
    rows, other_rows = (_rows(folder, metric, objective) for folder in (first, second))
    if rows is None or other_rows is None:
        return None
    examples = len(np.unique(rows["example"]))
    weight_C, loss_CD, count_CD = _by_document(rows)
    other_weight_C, other_CD, other_count_CD = _by_document(other_rows)
    same_weights = np.array_equal(weight_C, other_weight_C)
    if not (same_weights and np.array_equal(count_CD, other_count_CD)):
        return None
    gap_CD = loss_CD - other_CD
    total_C, count_C = gap_CD.sum(1, keepdims=True), count_CD.sum(1, keepdims=True)
    mean = float(np.average(total_C / count_C, axis=0, weights=weight_C)[0])
    half = _half_width(gap_CD, count_CD, weight_C)
    ends = (None, None) if half is None else (mean - half, mean + half)
    return examples, gap_CD.shape[1], mean, *ends


def _half_width(gap_CD: np.ndarray, count_CD: np.ndarray, weight_C: np.ndarray) -> float | None:
    """Return half the width of the mean gap's interval, by the jackknife over documents."""
    documents = gap_CD.shape[1]
    total_C, count_C = gap_CD.sum(1, keepdims=True), count_CD.sum(1, keepdims=True)
    # Without the only document that has a condition there is no mean.
    left_CD = count_C - count_CD
    if documents < 2 or not left_CD.all():
        return None
    without_D = np.average((total_C - gap_CD) / left_CD, axis=0, weights=weight_C)
    error = ((documents - 1) * np.var(without_D)) ** 0.5
    sizes_D = count_CD.sum(0)
    effective = sizes_D.sum() ** 2 / (sizes_D**2).sum()
    return float(stdtrit(max(effective - 1, 1), 1 - ALPHA / 2) * error)


def _rows(folder: Path, metric: str, objective: str | None) -> pa.Table | None:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    match, path = LOSS.fullmatch(metric), folder / LOSSES_FILE
    if match is None or not path.is_file():
        return None
    table = pq.read_table(path)
    objective = match["objective"] or objective or table["objective"][0].as_py()
    table = table.filter(pc.equal(table["objective"], objective))
    if match["condition"] is None:
        table = table.filter(pc.greater(table["weight"], 0))
    else:
        table = table.filter(np.array([name == match["condition"] for name in _conditions(table)]))
    return table if len(table) else None


def _conditions(table: pa.Table) -> list[str]:
    columns = (table[name].to_pylist() for name in ("rate", "negatives"))
    return [kind or f"{rate:g}" for rate, kind in zip(*columns, strict=True)]


def _by_document(table: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the weight of each condition, and the sums of the losses and of the predictions
    by condition and document."""
    conditions, first_C, row_N = np.unique(
        _conditions(table), return_index=True, return_inverse=True
    )
    documents, column_N = np.unique(table["document"].to_numpy(), return_inverse=True)
    shape = (len(conditions), len(documents))
    cell_N = np.ravel_multi_index((row_N, column_N), shape)
    size = len(conditions) * len(documents)
    sums = (np.bincount(cell_N, table[name].to_numpy(), size) for name in ("loss", "count"))
    loss_CD, count_CD = (values.reshape(shape) for values in sums)
    weight_C = table["weight"].to_numpy()[first_C]
    return np.where(len(conditions) > 1, weight_C, 1.0), loss_CD, count_CD
