"""The terminal of every command: errors in one line, and output that never stops a run."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from bertexp.validation import is_mistake

# Set to 1 by users who want a traceback of their mistakes too.
FULL_ERROR = "HYDRA_FULL_ERROR"


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

    A mistake of the user, and output that was lost, are a line on standard error and exit code 1; a
    signal, and the end of the program that reads the output (``| head``), a code above 128.
    """
    wants_traceback = os.environ.get(FULL_ERROR) == "1"
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    os.environ["PYTHONIOENCODING"] = f"{encoding}:{errors or 'replace'}"
    try:
        with tolerant():
            yield
    except SystemExit as ending:
        if ending.code or not _Output.problem:
            raise
    except KeyboardInterrupt as interruption:
        sys.exit(getattr(interruption, "code", 130))
    except Exception as error:
        if wants_traceback or not is_mistake(error):
            raise
        sys.exit(f"error: {error}")
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
