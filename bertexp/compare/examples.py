"""Two models on the same examples: how far their losses differ."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bertexp.summary import LOSSES_FILE

if TYPE_CHECKING:
    import pyarrow as pa

RESAMPLES = 4000
LOSS = re.compile(r"eval/(?:(?P<objective>[a-z]+)_)?loss(?:@(?P<rate>[\d.]+))?")


def clustered_difference(
    first: Path, second: Path, metric: str
) -> tuple[int, int, float, float | None, float | None] | None:
    """Return how much higher the first run's loss is than the second's, with its 95% interval.

    Examples of one document are no independent draws, so documents are resampled, the same
    for both models and at all rates (a percentile bootstrap). As in the metric, the mean
    loss per prediction is taken at each rate and then over the rates.

    Args:
        first, second: the runs' folders; their banks are the same.
        metric: what to compare: a mean loss, at one rate or over all.

    Returns:
        The number of examples and of documents, the difference and the ends of its interval,
        which are None for a single document; or None where there are no such losses.
    """
    rows, other_rows = _rows(first, metric), _rows(second, metric)
    if rows is None or other_rows is None:
        return None
    examples = len(np.unique(rows["example"]))
    loss_RD, count_RD = _by_document(rows)
    other_RD, other_count_RD = _by_document(other_rows)
    if not np.array_equal(count_RD, other_count_RD):
        return None
    gap_RD = loss_RD - other_RD
    documents = gap_RD.shape[1]
    mean = _mean_gap(gap_RD, count_RD)
    if documents < 2:
        return examples, documents, mean, None, None
    generator = np.random.default_rng(0)
    drawn = (generator.integers(documents, size=documents) for _ in range(RESAMPLES))
    means = [_mean_gap(gap_RD[:, chosen], count_RD[:, chosen]) for chosen in drawn]
    low, high = np.percentile(means, [2.5, 97.5])
    return examples, documents, mean, float(low), float(high)


def _rows(folder: Path, metric: str) -> pa.Table | None:
    """Return the losses that the metric is the mean of."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    match, path = LOSS.fullmatch(metric), folder / LOSSES_FILE
    if match is None or not path.is_file():
        return None
    table = pq.read_table(path)
    objectives = table["objective"].unique().to_pylist()
    objective = match["objective"] or ("mlm" if "mlm" in objectives else objectives[0])
    table = table.filter(pc.equal(table["objective"], objective))
    if match["rate"]:
        table = table.filter(pc.equal(table["rate"], float(match["rate"])))
    return table if len(table) else None


def _by_document(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums of the losses and of the predictions, by rate and document."""
    rates, row_N = np.unique(table["rate"].to_numpy(), return_inverse=True)
    documents, column_N = np.unique(table["document"].to_numpy(), return_inverse=True)
    shape = (len(rates), len(documents))
    cell_N = np.ravel_multi_index((row_N, column_N), shape)
    size = len(rates) * len(documents)
    sums = (np.bincount(cell_N, table[name].to_numpy(), size) for name in ("loss", "count"))
    loss_RD, count_RD = (values.reshape(shape) for values in sums)
    return loss_RD, count_RD


def _mean_gap(gap_RD: np.ndarray, count_RD: np.ndarray) -> float:
    return float(np.mean(gap_RD.sum(1) / count_RD.sum(1)))
