"""The whole comparison: compute, print, write; every sweep ends with it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.text import Text

from bertexp import console
from bertexp.compare.comparison import compare
from bertexp.compare.page import write_page
from bertexp.compare.plots import write_plots
from bertexp.compare.results import Comparison, write_csv_file, write_json_file
from bertexp.compare.runs import Run, is_run, read_runs
from bertexp.compare.table import render
from bertexp.validation import UserError

OUTPUTS = Path("outputs") / "compare"
SECONDS_BETWEEN_LOOKS = 5


def compare_runs(runs: Sequence[Run], output: Path, **chosen: Any) -> Comparison:
    """Compare runs, write all files to ``output``, print the table.

    Args:
        runs: at least one.
        output: a folder; it is made if it is not there.
        chosen: see ``compare``.

    Raises:
        UserError: something the user can correct.
    """
    comparison = compare(runs, **chosen)
    terminal = console.output()
    try:
        output.mkdir(parents=True, exist_ok=True)
        written = [write_csv_file(comparison, output), write_json_file(comparison, output)]
        written += write_plots(comparison, output)
        page = write_page(comparison, output)
    except OSError as error:
        terminal.print(render(comparison))
        raise UserError(f"--output {output}: cannot be written ({error.strerror}).") from error
    terminal.print(Text(str(page)), soft_wrap=True)
    terminal.print(render(comparison))
    terminal.print()
    for path in written:
        terminal.print(Text(str(path)), soft_wrap=True)
    return comparison


def watch(paths: Sequence[str | Path], **chosen: Any) -> None:
    """Show the table again whenever it has changed, until no run is running any more."""
    terminal = console.output()
    before = None
    while True:
        comparison = compare(read_runs(paths), **chosen)
        if all(run.status != "running" for run in comparison.runs):
            return
        if comparison != before:
            terminal.clear()
            terminal.print(render(comparison))
            before = comparison
        time.sleep(SECONDS_BETWEEN_LOOKS)


def default_output(paths: Sequence[str]) -> Path:
    """Return where to write: into the one folder that was given, unless it is itself a run."""
    first = Path(paths[0])
    if len(paths) == 1 and first.is_dir() and not is_run(first):
        return first
    return OUTPUTS / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
