"""Files with a document a row: JSON lines and Parquet."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from bertexp.corpora import Document, files
from bertexp.corpora.config import DatasetConfig
from bertexp.corpora.files import Part
from bertexp.validation import UserError, nearest

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

ROWS_AT_ONCE = 256


def text_lines(text: str) -> list[str]:
    """Return the lines of a row's text that are not blank: its paragraphs."""
    return [line for line in re.split(r"\r\n|\r|\n", text) if line.strip()]


def missing_column(place: str, column: str, present: list[str]) -> UserError:
    """Return the error for a file, row or data set that has no ``dataset.column``."""
    return UserError(
        f"dataset.column={column}: {place} has no such column;"
        f" it has {', '.join(present)}.{nearest(column, present)}"
    )


def read_jsonl(part: Part, config: DatasetConfig) -> Iterator[Document]:
    """Yield a document for each line of JSON; a null text gives none.

    Raises:
        UserError: a line that is no JSON object, lacks the column or has no text there.
    """
    path = part.path
    for number, line in enumerate(files.lines(part, config.errors), start=part.first):
        if not line.strip():
            continue
        place = f"'{path}', line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            reason = f"{error.msg} at character {error.pos + 1}"
            raise UserError(f"dataset.files: {place} is not JSON: {reason}.") from error
        except (ValueError, RecursionError) as error:
            # A number of thousands of digits, or brackets nested as deep.
            raise UserError(f"dataset.files: {place} cannot be read as JSON: {error}.") from error
        if not isinstance(row, dict):
            raise UserError(f"dataset.files: {place} is not a JSON object ({{...}}).")
        if config.column not in row:
            raise missing_column(place, config.column, list(row))
        text = row[config.column]
        if text is None:
            continue
        if not isinstance(text, str):
            kind = type(text).__name__
            raise UserError(f"dataset.column={config.column}: {place} has {kind} there, not text.")
        yield Document(f"{path.name}:{number}", text_lines(_well_formed(text, place, config)))


def _well_formed(text: str, place: str, config: DatasetConfig) -> str:
    r"""Return ``text`` without lone surrogates, which JSON can spell (``\ud800``) but UTF-8 not."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        if config.errors == "strict":
            raise UserError(
                f"dataset.files: {place} has half a surrogate pair;"
                " mend it, or set dataset.errors=replace."
            ) from error
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def read_parquet(part: Part, config: DatasetConfig) -> Iterator[Document]:
    """Yield a document for each row of a Parquet file's row groups; a null text gives none.

    Raises:
        UserError: the file is no Parquet, or has no column of text by that name.
    """
    import pyarrow as pa

    path, column = part.path, config.column
    with _open_parquet(path) as table:
        schema = table.schema_arrow
        if column not in schema.names:
            raise missing_column(f"'{path}'", column, schema.names)
        kind = schema.field(column).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise UserError(f"dataset.column={column}: '{path}' has {kind} there, not text.")
        groups = range(table.num_row_groups)[part.start : part.end]
        batches = table.iter_batches(ROWS_AT_ONCE, row_groups=groups, columns=[column])
        texts = chain.from_iterable(batch.column(0).to_pylist() for batch in batches)
        for row, text in enumerate(texts, start=part.first):
            if text is not None:
                yield Document(f"{path.name}:{row}", text_lines(text))


def row_groups(path: Path, size: int) -> list[Part]:
    """Return the parts of a Parquet file: row groups that together hold ``size`` bytes or more."""
    with _open_parquet(path) as table:
        found, start, first, rows, held = [], 0, 1, 0, 0
        for number in range(table.num_row_groups):
            group = table.metadata.row_group(number)
            rows, held = rows + group.num_rows, held + group.total_byte_size
            if held >= size or number + 1 == table.num_row_groups:
                found.append(Part(path, start, number + 1, first))
                start, first, rows, held = number + 1, first + rows, 0, 0
    return found


@contextmanager
def _open_parquet(path: Path) -> Iterator[ParquetFile]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with files.reading(path), pq.ParquetFile(path) as table:
            yield table
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"dataset.files: '{path}' is not readable as Parquet: {reason}") from error
