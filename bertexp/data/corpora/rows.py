"""Rows of tables: the columns that are wanted, and the documents that are made of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bertexp.data.corpora.config import DatasetConfig
from bertexp.validation import UserError, nearest

Row = tuple[Any, ...]
# The names of columns, each with the configuration key that has it.
Columns = Sequence[tuple[str, str]]


def missing_column(key: str, column: str, place: str, present: Sequence[str]) -> UserError:
    """Return the error for a file, row or data set that lacks a column."""
    return UserError(
        f"{key}={column}: {place} has no such column;"
        f" it has {', '.join(present)}.{nearest(column, present)}"
    )


def pick_columns(present: Sequence[str], columns: Columns, place: str) -> list[str]:
    """Return which columns of a table are wanted, whole or in part.

    Raises:
        UserError: one of them is not there.
    """
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


def wanted(config: DatasetConfig) -> Columns:
    """Return the columns whose text makes a document."""
    return [(name, "dataset.column") for name in config.columns]


def row_paragraphs(row: Row, config: DatasetConfig, place: str) -> list[str]:
    """Return the lines of a row's texts, column by column; a column may have a list of texts.

    Raises:
        UserError: a value that is no text.
    """
    found = []
    for column, value in zip(config.columns, row, strict=True):
        for text in value if isinstance(value, list) else [value]:
            if text is None:
                continue
            if not isinstance(text, str):
                kind = type(text).__name__
                raise UserError(f"dataset.column={column}: {place} has {kind} there, not text.")
            found += text_lines(_well_formed(text, place, config.errors))
    return found


def text_lines(text: str) -> list[str]:
    """Return the lines of a row's text that are not blank: its paragraphs."""
    return [line for line in re.split(r"\r\n|\r|\n", text) if line.strip()]


def _well_formed(text: str, place: str, errors: str) -> str:
    r"""Return ``text`` without lone surrogates, which JSON can spell (``\ud800``) but UTF-8 not."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        if errors == "strict":
            raise UserError(
                f"dataset.files: {place} has half a surrogate pair;"
                " repair it, or set dataset.errors=replace."
            ) from error
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
