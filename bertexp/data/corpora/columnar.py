"""Rows of Parquet and Arrow files, few in memory at a time, and columns of any table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from bertexp.data.corpora import opening
from bertexp.data.corpora.opening import Part
from bertexp.validation import UserError, nearest, reported

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

ROWS_AT_ONCE = 256

Rows = Iterator[tuple[int, dict[str, Any]]]
Row = tuple[Any, ...]
# Names of columns, each with the configuration key that sets it.
Columns = Sequence[tuple[str, str]]


def missing_column(key: str, column: str, place: str, present: Sequence[str]) -> UserError:
    """Return the error for a file, row or data set that lacks a column."""
    return UserError(
        f"{key}={column}: {place} has no such column;"
        f" it has {', '.join(present)}.{nearest(column, present)}"
    )


def pick_columns(present: Sequence[str], columns: Columns, place: str) -> list[str]:
    """Return which columns of a table to read, all if none are named."""
    if not columns:
        return [*present]
    found: dict[str, None] = {}
    for column, key in columns:
        name = column if column in present else column.partition(".")[0]
        if name not in present:
            raise missing_column(key, column, place, present)
        found[name] = None
    return [*found]


def pick(row: Mapping[str, Any], columns: Columns, place: str) -> Row:
    """Return the values of columns; ``a.b`` is ``b`` in ``a``, unless a column has that name."""
    return tuple(_field(row, column, key, place) for column, key in columns)


def _field(row: Mapping[str, Any], column: str, key: str, place: str) -> Any:
    value: Any = row
    for name in [column] if column in row else column.split("."):
        if value is None:
            return None
        if not isinstance(value, Mapping) or name not in value:
            raise missing_column(key, column, place, [*row])
        value = value[name]
    return value


def parquet_rows(part: Part, columns: Columns, errors: str) -> Rows:
    with _open_parquet(part) as table:
        pick_columns(table.schema_arrow.names, columns, f"'{part.path}'")
        groups = range(table.num_row_groups)[part.start : part.end]
        names = [name for name, _ in columns]
        batches = table.iter_batches(ROWS_AT_ONCE, row_groups=groups, columns=names or None)
        yield from _rows(batches, errors, part)


def arrow_rows(part: Part, columns: Columns, errors: str) -> Rows:
    is_file = opening.head(part.path, part.key).startswith(b"ARROW1")
    with _arrow_errors(part, "Arrow"), pa.memory_map(str(part.path)) as source:
        reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
        names = pick_columns(reader.schema.names, columns, f"'{part.path}'")
        whole = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
        batches = (
            batch.select(names).slice(start, ROWS_AT_ONCE)
            for batch in whole
            for start in range(0, batch.num_rows, ROWS_AT_ONCE)
        )
        yield from _rows(batches, errors, part)


def row_groups(path: Path, size: int) -> list[Part]:
    """Return the parts of a Parquet file: row groups of at least ``size`` bytes together."""
    with _open_parquet(Part(path)) as table:
        found, start, first, rows, held = [], 0, 1, 0, 0
        for number in range(table.num_row_groups):
            group = table.metadata.row_group(number)
            rows, held = rows + group.num_rows, held + group.total_byte_size
            if held >= size or number + 1 == table.num_row_groups:
                found.append(Part(path, start, number + 1, first))
                start, first, rows, held = number + 1, first + rows, 0, 0
    return found


def _rows(batches: Iterable[pa.RecordBatch], errors: str, part: Part) -> Rows:
    number = part.first
    for batch in batches:
        values = [_values(column, errors, part, number) for column in batch.columns]
        for row in zip(*values, strict=True):
            yield number, dict(zip(batch.schema.names, row, strict=True))
            number += 1


def _values(array: pa.Array, errors: str, part: Part, first: int) -> list[Any]:
    """Return a column's values; text that is not all UTF-8 is decoded here."""
    try:
        values: list[Any] = array.to_pylist()
    except UnicodeDecodeError:
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        values = array.cast(pa.large_binary()).to_pylist()
    for place, value in enumerate(values):
        if isinstance(value, bytes):
            try:
                values[place] = value.decode("utf-8", errors)
            except UnicodeDecodeError as error:
                advice = "; set dataset.errors=replace" if part.key == Part.key else ""
                raise UserError(
                    f"{part.key}: '{part.path}', row {first + place} is not UTF-8{advice}."
                ) from error
    return values


@contextmanager
def _open_parquet(part: Part) -> Iterator[ParquetFile]:
    import pyarrow.parquet as pq

    with _arrow_errors(part, "Parquet"), pq.ParquetFile(part.path) as table:
        yield table


@contextmanager
def _arrow_errors(part: Part, kind: str) -> Iterator[None]:
    what = f"{part.key}: '{part.path}' is not readable as {kind}"
    with reported(what, pa.ArrowException), opening.reading(part.path, part.key):
        yield
