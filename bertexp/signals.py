"""Signals that stop a run: it finishes its step and saves, where it can."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

# Of a person, of a job scheduler, of a terminal that closes, and what Slurm sends ahead of the end
# (`--signal=USR1@60`; submitit has it send USR2). Windows has only the first two.
_NAMES = ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP", "SIGUSR1", "SIGUSR2")
STOPPING = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


class Interrupted(KeyboardInterrupt):
    """A signal ended the run; ``code`` is the exit code, 128 + the signal's number."""

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
        # Python hands signals to the main thread alone; others cannot handle them.
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                # What it was started to ignore it ignores: `nohup`, or `&` in a script.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
            if hasattr(signal, "pthread_sigmask"):
                # Where the process was started with them held back.
                signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        requeue: int | None = getattr(signal, "SIGUSR2", None)
        if requeue and self.received == requeue and callable(self._before.get(requeue)):
            # Submitit's, which sends the job back into the queue.
            signal.raise_signal(requeue)

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
        """Forward signals to processes, given by their ids, and let them stop."""
        self._workers = workers
        try:
            yield
        finally:
            self._workers = None

    def check(self) -> None:
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
            # A terminal that has closed takes no more of it.
            with suppress(OSError):
                os.write(2, f"\n{name}: finishing the step; Ctrl-C stops at once.\n".encode())


def ignore_signals(_: int) -> None:
    """Leave signals to the main process: in a process that works for it.

    A terminal and a scheduler send them to all; a worker that dies would take the step along.
    """
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


def end_with_parent() -> None:
    """End this process, made by ``multiprocessing``, when the one that started it is gone.

    That may have been killed, and its claim on a run's folder ends with it.
    """

    def wait() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
