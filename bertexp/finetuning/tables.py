"""Rows of labelled files: CSV, TSV, JSON Lines and Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bertexp.validation import UserError, nearest

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
Row = tuple[Any, ...]


def read_rows(
    path: Path, columns: Sequence[str], keys: Sequence[str], header: Sequence[str] | None = None
) -> Iterator[Row]:
    """Yield the values of some columns, None where a row has none.

    CSV is read as RFC 4180 has it, with quotes around fields; in TSV, as GLUE has it, a quotation
    mark is like any other character and every tab ends a field.

    Args:
        path: the file; its ending says what it is.
        columns: which columns.
        keys: the configuration keys that name them, for error messages.
        header: what the columns are called, where the file's first line does not say.

    Raises:
        UserError: a file that is not there or cannot be read, or lacks a column.
    """
    if path.suffix not in FORMATS:
        raise UserError(f"{path}: must end in one of {', '.join(FORMATS)}.")
    try:
        if path.suffix == ".parquet":
            yield from _parquet(path, columns, keys)
        else:
            # Of a TSV, lines end at line feeds alone: a carriage return may be within a text.
            ends = "\n" if path.suffix == ".tsv" else ""
            with path.open(encoding="utf-8-sig", newline=ends) as file:
                if path.suffix == ".jsonl":
                    yield from _json_lines(path, file, columns, keys)
                else:
                    yield from _separated(path, file, columns, keys, header)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8.") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from error


def missing(key: str, column: str, place: str, present: Sequence[str]) -> UserError:
    """Return the error for data that lack a column."""
    there = f"it has {', '.join(present)}."
    return UserError(
        f"{key}={column}: {place} has no such column; {there}{nearest(column, present)}"
    )


def _separated(
    path: Path,
    lines: Iterator[str],
    columns: Sequence[str],
    keys: Sequence[str],
    header: Sequence[str] | None,
) -> Iterator[Row]:
    csv.field_size_limit(1 << 30)
    if path.suffix == ".tsv":
        rows: Any = (line.rstrip("\r\n").split("\t") for line in lines)
    else:
        rows = csv.reader(lines)
    try:
        present = [*header] if header else next(rows, None)
        if present is None:
            return  # an empty file has no rows, whatever they are made of
        places = _places(columns, keys, present, str(path))
        for row in rows:
            if any(row):
                yield tuple(row[place] if place < len(row) else None for place in places)
    except csv.Error as error:
        raise UserError(f"{path}: cannot be read as CSV ({error}).") from error


def _json_lines(
    path: Path, lines: Iterator[str], columns: Sequence[str], keys: Sequence[str]
) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: is no JSON ({error}).") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: is no JSON object ({{...}}).")
        _places(columns, keys, [*row], f"{path}, line {number},")
        yield tuple(row[column] for column in columns)


def _parquet(path: Path, columns: Sequence[str], keys: Sequence[str]) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            _places(columns, keys, table.schema_arrow.names, str(path))
            for batch in table.iter_batches(columns=[*columns]):
                yield from zip(*(batch.column(name).to_pylist() for name in columns), strict=True)
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be read as Parquet ({reason}).") from error


def _places(
    columns: Sequence[str], keys: Sequence[str], present: Sequence[str], place: str
) -> list[int]:
    for column, key in zip(columns, keys, strict=True):
        if column not in present:
            raise missing(key, column, place, present)
    return [present.index(column) for column in columns]
