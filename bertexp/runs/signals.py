"""Signals that ask a run to stop: it comes to a good end where it can."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

# Of a person, of a job scheduler, and what Slurm sends ahead of the end (`--signal=USR1@60`;
# submitit has it send USR2).
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Interrupted(KeyboardInterrupt):
    """A signal ended the run.

    Attributes:
        code: the exit code, 128 + the signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


class Signals:
    """Turns signals into ``Interrupted``, for the time of a ``with`` block.

    It is raised at once, but inside ``deferred()`` only by ``check()``, so that a step can be
    finished and saved. There a second Ctrl-C raises at once; other signals do not, because a
    scheduler sends several.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._deferring = False
        self._workers: Callable[[], list[int]] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        # Python hands signals to the main thread alone; others cannot ask for them.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in STOPPING}
            # Where the process was started with them held back.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.received == signal.SIGUSR2 and callable(self._before.get(signal.SIGUSR2)):
            # Submitit's, which sends the job back into the queue.
            signal.raise_signal(signal.SIGUSR2)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let signals wait for ``check()``."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False

    @contextmanager
    def handed_on(self, workers: Callable[[], list[int]]) -> Iterator[None]:
        """Hand signals on to processes, given by their ids, and let it be them that stop."""
        self._workers = workers
        try:
            yield
        finally:
            self._workers = None

    def check(self) -> None:
        """Raise ``Interrupted`` if a signal has come."""
        if self.received is not None:
            raise Interrupted(self.received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self.received is not None
        self.received = self.received or number
        if self._workers:
            for process in self._workers():
                with suppress(ProcessLookupError):
                    os.kill(process, number)
            return
        if not self._deferring or (again and number == signal.SIGINT):
            raise Interrupted(number)
        if not again:
            # Neither print nor a logger: both may be at work where the signal came.
            name = signal.Signals(number).name
            os.write(2, f"\n{name}: finishing the step; Ctrl-C stops at once.\n".encode())


def ignore_signals(_: int) -> None:
    """Leave signals to the main process: in a process that works for it.

    A terminal and a scheduler send them to all; a worker that dies would take the step along.
    """
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
