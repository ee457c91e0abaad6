"""The output of every command, which accepts every character and never stops a run."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class _Output(io.FileIO):
    """A file that drops what it cannot write, because a disk is full or a pipe closed.

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
    """Print as in ``tolerant``, in this process and those that it starts.

    Exits with a line on standard error and code 1 if output was lost, and silently with code 130
    if the program that reads it has ended (``| head``).
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
    """Print in any encoding, and drop what cannot be written."""
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
    """Whether the program that reads standard output has ended."""
    return isinstance(_Output.problem, BrokenPipeError)


def _tolerant(stream: TextIO, errors: str) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    if os.name == "nt":
        # A Windows console is not a file.
        stream.reconfigure(errors=errors)
        return stream
    raw = _Output(stream.fileno(), "wb", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),  # type: ignore[type-var]  # a FileIO
        encoding=stream.encoding,
        errors=errors,
        # Line by line, so that output and errors in one file are in order.
        line_buffering=True,
        write_through=stream.write_through,
    )
