"""The loss of every example of the bank, so that two runs can be compared example by example."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bertexp.evaluation.bank import Bank
from bertexp.experiment.summary import LOSSES_FILE
from bertexp.objectives.base import Evaluated

BANK_KEY = b"bank"


def example_losses(bank: Bank, found: Sequence[Evaluated]) -> pa.Table:
    """Return a row for each objective, condition and example in which something is predicted.

    Columns: ``objective``, ``rate`` of masks (null for pairs), ``negatives`` (their kind, null for
    masked tokens), ``weight`` (what that condition counts in the mean over all), ``example`` (its
    number among those of the validation split), ``document`` (the number of the one it is from;
    examples of one are no independent draws), ``loss`` (in nats, the sum over its predictions) and
    ``count`` (of these). Rows are in the order of objective, rate, negatives and example. The
    table's metadata have the bank's fingerprints under ``bank``, as JSON: where two agree, their
    rows are of the same predictions.
    """
    order = [(name, "ascending") for name in ("objective", "rate", "negatives", "example")]
    table = pa.concat_tables([_rows(one) for one in found]).sort_by(order)
    return table.replace_schema_metadata({BANK_KEY: json.dumps(bank.fingerprints)})


def write_example_losses(folder: Path, table: pa.Table) -> None:
    """Write the table to the run's folder, all or nothing."""
    path = folder / LOSSES_FILE
    partial = path.with_suffix(".partial")
    pq.write_table(table, partial)
    os.replace(partial, path)


def _rows(found: Evaluated) -> pa.Table:
    one = found.of
    owners = np.concatenate(
        [
            batch.example_ids[batch.targets[one.objective].rows(batch.input_ids_BL.shape[1])]
            for batch in one.batches
        ]
    )
    examples, row_N = np.unique(owners, return_inverse=True)
    is_rate = isinstance(one.condition, float)
    return pa.table(
        {
            "objective": pa.array([one.objective] * len(examples)),
            "rate": pa.array([one.condition if is_rate else None] * len(examples), pa.float64()),
            "negatives": pa.array([None if is_rate else one.name] * len(examples), pa.string()),
            "weight": np.full(len(examples), one.weight),
            "example": examples,
            "document": one.documents[examples],
            "loss": np.bincount(row_N, found.losses),
            "count": np.bincount(row_N),
        }
    )
