"""The progress of training: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import time
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Columns

from bertexp.console import clock

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Shows progress on standard error within a ``with`` block; other processes disable it."""

    def __init__(self, total_steps: int, *, disable: bool = False) -> None:
        self._total = total_steps
        self._display: _Lines | None = None if disable else _display()
        self._began = time.monotonic()
        self._first: tuple[float, float] | None = None

    def __enter__(self) -> Progress:
        self._began = time.monotonic()
        if self._display:
            self._display.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._display:
            self._display.stop()

    def update(self, step: int, fraction: float, loss: float, tokens_per_second: float) -> None:
        """Show the state after ``step``; ``fraction`` is the share of the budget, 0 to 1."""
        parts = [
            f"step {step}/{self._total}",
            f"{fraction:.0%}",
            f"loss {loss:.3f}",
            f"{tokens_per_second:,.0f} tokens/s",
            self._time(fraction),
        ]
        if self._display:
            self._display.show(fraction, " · ".join(filter(None, parts)))

    def note(self, text: str) -> None:
        if self._display:
            self._display.note(text)

    def _time(self, fraction: float) -> str:
        """Return the time left at the pace since the first update; the total time at the end."""
        now = time.monotonic()
        if fraction >= 1:
            return f"{clock(now - self._began)} in all"
        # A resumed run starts in the middle, and a first step is slow: both would distort the pace.
        if self._first is None:
            self._first = (now, fraction)
        began, spent = self._first
        if fraction <= spent:
            return ""
        return f"{clock((now - began) * (1 - fraction) / (fraction - spent))} left"


class _Lines:
    """A line at intervals and one at the end, for files and job logs."""

    def __init__(self) -> None:
        self._pending: str | None = None
        self._next = 0.0

    def start(self) -> None:
        pass

    def show(self, fraction: float, status: str) -> None:
        self._pending = status
        if time.monotonic() >= self._next:
            self.stop()

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def stop(self) -> None:
        if self._pending is not None:
            self.note(self._pending)
            self._pending = None
            self._next = time.monotonic() + _SECONDS_BETWEEN_LINES


class _Bar(_Lines):
    """A bar with the status beside it; other output appears above."""

    def __init__(self) -> None:
        super().__init__()
        self._bar = Columns(
            BarColumn(bar_width=None),
            TextColumn("{task.description}", markup=False),
            console=Console(stderr=True),
            refresh_per_second=2,
            expand=True,
            # Rich would send standard output to standard error, even where it is a file.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task = self._bar.add_task("", total=1.0)
        self._streams: dict[logging.StreamHandler[TextIO], TextIO] = {}

    def start(self) -> None:
        self._bar.start()
        # Log messages that go to the terminal are led around the bar.
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream.isatty():
                self._streams[handler] = handler.stream
                handler.setStream(sys.stderr)

    def show(self, fraction: float, status: str) -> None:
        self._bar.update(self._task, completed=fraction, description=status, refresh=True)

    def note(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        self._bar.stop()
        for handler, stream in self._streams.items():
            handler.setStream(stream)


def _display() -> _Lines:
    draws = sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    # In a notebook the bar is a widget.
    widgets = Console().is_jupyter and importlib.util.find_spec("ipywidgets") is not None
    return _Bar() if draws or widgets else _Lines()
