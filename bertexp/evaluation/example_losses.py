"""The loss of every example of the bank, so that two runs can be compared example by example."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bertexp.evaluation.bank import Answers, Bank
from bertexp.summary import LOSSES_FILE
from bertexp.tasks.base import Batch

BANK_KEY = b"bank"


def example_losses(bank: Bank, answers: Mapping[float | None, Answers]) -> pa.Table:
    """Return a row for each objective, rate and example in which something is predicted.

    Columns: ``objective``, ``rate`` (null where nothing is masked), ``example`` (its number
    in the validation split), ``document`` (the number of the one it is from; examples of one
    are no independent draws), ``loss`` (in nats, the sum over its predictions) and ``count``
    (of these). Rows are in the order of the first three. The table's metadata have the
    bank's fingerprint under ``bank``: where two agree, their rows answer the same questions.
    """
    parts = [
        _rows(bank, rate, name, losses)
        for rate, rate_answers in answers.items()
        for name, losses in rate_answers.losses.items()
    ]
    order = [("objective", "ascending"), ("rate", "ascending"), ("example", "ascending")]
    table = pa.concat_tables(parts).sort_by(order)
    return table.replace_schema_metadata({BANK_KEY: bank.fingerprint})


def write_example_losses(folder: Path, table: pa.Table) -> None:
    """Write the table to the run's folder, all or nothing."""
    path = folder / LOSSES_FILE
    partial = path.with_suffix(".partial")
    pq.write_table(table, partial)
    os.replace(partial, path)


def _rows(bank: Bank, rate: float | None, objective: str, losses: np.ndarray) -> pa.Table:
    owners = np.concatenate([_owners(batch, objective) for batch in bank.batches[rate]])
    examples, row_N = np.unique(owners, return_inverse=True)
    return pa.table(
        {
            "objective": pa.array([objective] * len(examples)),
            "rate": pa.array([rate] * len(examples), pa.float64()),
            "example": examples,
            "document": bank.documents[examples],
            "loss": np.bincount(row_N, losses),
            "count": np.bincount(row_N),
        }
    )


def _owners(batch: Batch, objective: str) -> np.ndarray:
    """Return the example that each prediction of ``objective`` belongs to."""
    if objective != "mlm":
        return batch.example_ids
    assert batch.positions_N is not None
    return batch.example_ids[batch.positions_N.numpy() // batch.input_ids_BL.shape[1]]
