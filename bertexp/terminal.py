"""What every command prints to: it takes every character, and never stops a run."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class _Output(io.FileIO):
    """A descriptor that drops what it cannot write: a disk is full, a terminal or pipe closed.

    A run's results matter more than its output; the exit code shows the loss.
    """

    problem: OSError | None = None

    def write(self, data: bytes) -> int:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError as error:
            _Output.problem = _Output.problem or error
            return len(data)


@contextmanager
def command() -> Iterator[None]:
    """Print as ``tolerant`` does, here and in processes started from here.

    Exits with a line on standard error and code 1 if output was lost; with 130 and no line where
    it went to a program that has ended (``| head``).
    """
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    os.environ["PYTHONIOENCODING"] = f"{encoding}:{errors or 'replace'}"
    try:
        with tolerant():
            yield
    except SystemExit as ending:
        if ending.code or not _Output.problem:
            raise
    if problem := _Output.problem:
        is_pipe = isinstance(problem, BrokenPipeError)
        reason = f"error: the output cannot be written ({problem.strerror})."
        sys.exit(130 if is_pipe else reason)


@contextmanager
def tolerant() -> Iterator[None]:
    """Print whatever the encoding; what cannot be written is dropped."""
    before = sys.stdout, sys.stderr
    sys.stdout = _tolerant(sys.stdout, "replace")
    sys.stderr = _tolerant(sys.stderr, "backslashreplace")
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def reader_is_gone() -> bool:
    """Whether standard output goes to a program that has ended."""
    return isinstance(_Output.problem, BrokenPipeError)


def _tolerant(stream: TextIO, errors: str) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    if os.name == "nt":
        # A Windows console is no file.
        stream.reconfigure(errors=errors)
        return stream
    raw = _Output(stream.fileno(), "wb", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),  # type: ignore[type-var]  # a FileIO
        encoding=stream.encoding,
        errors=errors,
        # A line at a time: what stands before an error is before it where both go to one place.
        line_buffering=True,
        write_through=stream.write_through,
    )
