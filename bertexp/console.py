"""Output for people: the only place that lays out tables and formats numbers.

``table`` lays out tables, ``listed`` names with their values, ``aligned`` lines without headings;
``show`` prints them and writes them to the run's log. Numbers are formatted by ``number``,
``compact``, ``size``, ``clock`` and ``plural``, values of a configuration by ``value_text``, paths
by ``short_path``.
"""

from __future__ import annotations

import io
import logging
import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

log = logging.getLogger(__name__)

# For files, pipes and the logs of jobs.
PLAIN_WIDTH = 80
MISSING = "–"
# In characters, for sentences and plots.
LONGEST_LABEL = 44
_collected: ContextVar[list[RenderableType] | None] = ContextVar("_collected", default=None)


def table(
    *columns: str,
    left: Collection[str] | None = None,
    rows: Iterable[Iterable[str | Text]] = (),
) -> Table:
    """Return a table without lines; more rows can be added to it.

    Args:
        left: the columns of text, by default the first; the others, of numbers, are aligned to
            the right.
        rows: cells, whose brackets are printed as they are. A cell that is passed to
            ``Table.add_row`` later must be a ``Text`` for that.
    """
    made = Table(box=None, pad_edge=False, header_style="bold")
    left = columns[:1] if left is None else left
    for name in columns:
        made.add_column(Text(name), justify="left" if name in left else "right", overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    return made


def listed(rows: Mapping[str, str]) -> Table:
    """Return names and values side by side; long values are folded, not cut."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for name, value in rows.items():
        grid.add_row(Text(name), Text(value))
    return grid


def aligned(rows: Iterable[Iterable[str | Text]], *, gap: int = 2, style: str = "") -> Table:
    """Return lines with aligned cells, without headings."""
    grid = Table.grid(padding=(0, gap))
    for row in rows:
        grid.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row), style=style)
    return grid


def output() -> Console:
    """Return standard output, 80 columns wide if it is not a terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)


def show(content: RenderableType, *, log_only: bool = False) -> None:
    """Print to standard output, and write to the run's log without colours."""
    parts = _collected.get()
    if parts is not None:
        parts.append(content)
    elif not log_only:
        output().print(content, crop=False)
    plain = io.StringIO()
    # In a notebook a console would print to the cell.
    Console(file=plain, width=PLAIN_WIDTH, force_jupyter=False).print(content, crop=False)
    log.debug("\n%s", plain.getvalue().rstrip())


@contextmanager
def collected() -> Iterator[list[RenderableType]]:
    """Yield a list to which ``show`` appends within a ``with`` block, instead of printing."""
    parts: list[RenderableType] = []
    token = _collected.set(parts)
    try:
        yield parts
    finally:
        _collected.reset(token)


def number(value: float | None, decimals: int = 3, *, signed: bool = False) -> str:
    """Return a number with a true minus sign, and a plus where ``signed``; a dash for none."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:+,.{decimals}f}" if signed else f"{value:,.{decimals}f}"
    return text.replace("-", "−")


def compact(value: float) -> str:
    """Return a count in at most four characters and a prefix: ``1.5M``."""
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        # 999,950 is 1M, not 1000k.
        if abs(value) >= 0.9995 * factor:
            return f"{value / factor:.3g}{prefix}"
    return f"{value:.3g}"


def size(count: float) -> str:
    """Return bytes: ``1.5 MB``."""
    text = compact(count)
    return f"{text[:-1]} {text[-1]}B" if text[-1].isalpha() else f"{text} B"


def clock(seconds: float) -> str:
    """Return ``0:48``, ``12:05`` or ``1:02:03``."""
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def plural(count: int, noun: str) -> str:
    """Return ``1 seed`` or ``3,000 seeds``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def value_text(value: object) -> str:
    """Return a value as it is written on the command line; equal values give equal texts."""
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{value_text(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, Iterable) and not isinstance(value, str):
        return f"[{','.join(map(value_text, value))}]"
    return str(value)


def short_path(path: str | Path) -> Path:
    """Return a path relative to the current folder if it is inside, else absolute."""
    absolute = Path(os.path.abspath(path))
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute


def shortened(label: str, longest: int = LONGEST_LABEL) -> str:
    """Return a label without its middle if it is too long."""
    if len(label) <= longest:
        return label
    half = (longest - 1) // 2
    return f"{label[:half]}…{label[-half:]}"


def shortened_apart(labels: Iterable[str]) -> dict[str, str]:
    """Return labels shortened as far as they remain different."""
    distinct = dict.fromkeys(labels)
    longest = LONGEST_LABEL
    while len({shortened(label, longest) for label in distinct}) < len(distinct):
        longest += 8
    return {label: shortened(label, longest) for label in distinct}
