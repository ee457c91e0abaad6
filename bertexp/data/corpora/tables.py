"""Tables with a text in each row: CSV, TSV, JSON, JSON Lines, Parquet and Arrow."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import IO, Any

from bertexp.data.corpora import opening
from bertexp.data.corpora.columnar import (
    Columns,
    Row,
    Rows,
    arrow_rows,
    parquet_rows,
    pick,
    pick_columns,
)
from bertexp.data.corpora.opening import Part
from bertexp.validation import UserError, reported

JSON_AT_ONCE = 1 << 16


def read_rows(
    part: Part,
    kind: str,
    columns: Columns,
    errors: str = "strict",
    header: Sequence[str] | None = None,
) -> Iterator[tuple[int, str, Row]]:
    """Yield the rows of a table: the number, a location for messages, and the columns' values.

    A missing value is None. ``a.b`` is ``b`` in the column ``a``, unless a column has that name.
    CSV follows RFC 4180, with optional quotes around fields and commas, semicolons or tabs between
    them. TSV follows GLUE: a quotation mark is an ordinary character and every tab ends a field.

    Args:
        header: the names of a TSV file's columns if its first line does not have them.

    Raises:
        UserError: the file cannot be read or lacks a column.
    """
    noun = "line" if kind == "jsonl" else "row"
    read = partial(_tsv, header=header) if kind == "tsv" else READERS[kind]
    for number, row in read(part, columns, errors):
        place = f"'{part.path}', {noun} {number}"
        yield number, place, pick(row, columns, place)


def _csv(part: Part, columns: Columns, errors: str) -> Rows:
    csv.field_size_limit(1 << 30)
    what = f"{part.key}: '{part.path}' cannot be read as CSV"
    with opening.open_text(part, errors, newline="") as text, reported(what, csv.Error):
        first = next(text, "")
        # The separator that gives the header these columns, or else the most names.
        headers = {each: next(csv.reader([first], delimiter=each), []) for each in ",;\t"}
        wanted = {name for name, _ in columns}
        fits = (each for each in headers if wanted and wanted <= {*headers[each]})
        separator = next(fits, max(headers, key=lambda each: len(headers[each])))
        rows = csv.reader(text, delimiter=separator)
        yield from _named(part, columns, headers[separator], rows)


def _tsv(part: Part, columns: Columns, errors: str, header: Sequence[str] | None = None) -> Rows:
    # Only line feeds end a line: a text may contain a carriage return.
    with opening.open_text(part, errors, newline="\n") as text:
        rows = (line.rstrip("\r\n").split("\t") for line in text)
        yield from _named(part, columns, header or next(rows, []), rows)


def _named(part: Part, columns: Columns, names: Sequence[str], rows: Iterable[list[str]]) -> Rows:
    if not names:
        return  # an empty file has no rows
    wanted = pick_columns(names, columns, f"'{part.path}'")
    places = {name: names.index(name) for name in wanted}
    for number, row in enumerate(filter(any, rows), start=1):
        yield number, {name: row[n] if n < len(row) else None for name, n in places.items()}


def _json_lines(part: Part, columns: Columns, errors: str) -> Rows:
    with opening.open_text(part, errors) as text:
        for number, line in enumerate(text, start=part.first):
            if line.strip():
                place = f"'{part.path}', line {number}"
                with _parsing(part.key, place):
                    row = json.loads(line.removesuffix("\n"))
                yield number, _object(row, part.key, place)


def _json(part: Part, columns: Columns, errors: str) -> Rows:
    with opening.open_text(part, errors) as stream:
        for number, row in enumerate(_objects(stream, part), start=1):
            yield number, _object(row, part.key, f"'{part.path}', row {number}")


def _objects(stream: IO[str], part: Part) -> Iterator[Any]:
    decoder, gap = json.JSONDecoder(), re.compile(r"[\s,]*")
    text = stream.read(JSON_AT_ONCE).lstrip()
    is_array, number, at_end = text[:1] == "[", 1, not text
    start = int(is_array)
    while True:
        start = gap.match(text, start).end()  # type: ignore[union-attr]
        if is_array and text[start : start + 1] == "]":
            return
        if at_end and start == len(text):
            if is_array:
                raise UserError(f"{part.key}: '{part.path}' is cut off: it ends without a ']'.")
            return
        try:
            with _parsing(part.key, f"'{part.path}', row {number}"):
                row, start = decoder.raw_decode(text, start)
        except UserError as error:
            cause = error.__cause__
            # In a truncated chunk the error is at its end, or where its last string begins.
            cut = isinstance(cause, json.JSONDecodeError) and (
                cause.pos > len(text) - 16 or cause.msg.startswith("Unterminated")
            )
            if at_end or not cut:
                raise
            chunk = stream.read(max(JSON_AT_ONCE, len(text) - start))
            text, start, at_end = text[start:] + chunk, 0, not chunk
            continue
        yield row
        number += 1


@contextmanager
def _parsing(key: str, place: str) -> Iterator[None]:
    try:
        yield
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at character {error.pos + 1}"
        raise UserError(f"{key}: {place} is not JSON: {reason}.") from error
    except (ValueError, RecursionError) as error:
        # A number with thousands of digits, or thousands of nested brackets.
        raise UserError(f"{key}: {place} cannot be read as JSON: {error}.") from error


def _object(row: Any, key: str, place: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise UserError(f"{key}: {place} is not a JSON object ({{...}}).")
    return row


READERS: dict[str, Callable[[Part, Columns, str], Rows]] = {
    "csv": _csv,
    "tsv": _tsv,
    "json": _json,
    "jsonl": _json_lines,
    "parquet": parquet_rows,
    "arrow": arrow_rows,
}
