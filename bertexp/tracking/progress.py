"""How far training has come: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import os
import sys
import time
from types import TracebackType
from typing import TextIO

from bertexp.console import clock as clock

_SECONDS_BETWEEN_LINES = 10.0


class Display:
    """Where progress is shown; this one shows nothing."""

    def start(self) -> None:
        """Begin to show."""

    def show(self, fraction: float, status: str) -> None:
        """Show how far it has come."""

    def note(self, text: str) -> None:
        """Show a line that stays."""

    def stop(self) -> None:
        """Leave everything as it was found."""


class Progress:
    """Shows a training run on standard error, for the time of a ``with`` block.

    Args:
        total_steps: steps in all, where that is known.
        disable: show nothing: for all processes but the main one.
    """

    def __init__(self, total_steps: int | None = None, *, disable: bool = False) -> None:
        self._total = total_steps
        self._display = Display() if disable else choose_display()
        self._began = time.monotonic()
        self._first: tuple[float, float] | None = None

    def __enter__(self) -> Progress:
        self._began = time.monotonic()
        self._display.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._display.stop()

    def update(self, step: int, fraction: float, loss: float, tokens_per_second: float) -> None:
        """Show the state after ``step``, with ``fraction`` (0 to 1) of the budget spent."""
        total = "" if self._total is None else f"/{self._total}"
        parts = [
            f"step {step}{total}",
            f"{fraction:.0%}",
            f"loss {loss:.3f}",
            f"{tokens_per_second:,.0f} tokens/s",
            self._time(fraction),
        ]
        self._display.show(fraction, " · ".join(filter(None, parts)))

    def note(self, text: str) -> None:
        """Print a line of its own, above the bar where there is one."""
        self._display.note(text)

    def _time(self, fraction: float) -> str:
        """Return the time left, from the pace since the first update; the total at the end."""
        now = time.monotonic()
        if fraction >= 1:
            return f"{clock(now - self._began)} in all"
        # A resumed run begins in the middle, and a first step is slow: neither tells the pace.
        if self._first is None:
            self._first = (now, fraction)
        began, spent = self._first
        if fraction <= spent:
            return ""
        return f"{clock((now - began) * (1 - fraction) / (fraction - spent))} left"


class Lines(Display):
    """A line now and then, and the last one at the end: for files and job logs."""

    def __init__(self) -> None:
        self._pending: str | None = None
        self._next = 0.0

    def show(self, fraction: float, status: str) -> None:
        """Print the status, unless another was printed a moment ago."""
        self._pending = status
        if time.monotonic() >= self._next:
            self._flush()

    def note(self, text: str) -> None:
        """Print the line."""
        print(text, file=sys.stderr, flush=True)

    def stop(self) -> None:
        """Print the last status if it was held back."""
        self._flush()

    def _flush(self) -> None:
        if self._pending is not None:
            self.note(self._pending)
            self._pending = None
            self._next = time.monotonic() + _SECONDS_BETWEEN_LINES


class Bar(Display):
    """One bar with the status beside it; whatever else is printed appears above."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._bar = Progress(
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
        """Draw the bar, and lead log messages that go to the terminal around it."""
        self._bar.start()
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream.isatty():
                self._streams[handler] = handler.stream
                handler.setStream(sys.stderr)

    def show(self, fraction: float, status: str) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=fraction, description=status, refresh=True)

    def note(self, text: str) -> None:
        """Print the line above the bar."""
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Draw the bar once more and give the terminal back."""
        self._bar.stop()
        for handler, stream in self._streams.items():
            handler.setStream(stream)


def choose_display() -> Display:
    """Return a bar on a terminal that can draw one, lines otherwise."""
    if sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        return Bar()
    return Lines()
