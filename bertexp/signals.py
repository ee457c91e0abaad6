"""Signals that stop a run: if possible it finishes its step and saves."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

# Sent by a person, a job scheduler, a terminal that closes, and Slurm ahead of a job's end
# (`--signal=USR1@60`; USR2 with submitit). Windows has only some of them.
_NAMES = ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP", "SIGUSR1", "SIGUSR2")
STOPPING = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


class Interrupted(KeyboardInterrupt):
    """The signal ``number`` ended the run; ``code`` is the exit code, 128 + ``number``."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.code = 128 + number


class Signals:
    """Turns signals into ``Interrupted`` within a ``with`` block.

    It is raised at once, except inside ``deferred()``, where ``check()`` raises it, so that a step
    can be finished and saved. There a second Ctrl-C raises it at once; other signals do not,
    because a scheduler sends several.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._deferring = False
        self._workers: Callable[[], list[int]] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        # Python delivers signals to the main thread only.
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                # Signals that it was started to ignore stay ignored: `nohup`, `&` in a script.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
            if hasattr(signal, "pthread_sigmask"):
                # The process may have been started with them blocked.
                signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        requeue: int | None = getattr(signal, "SIGUSR2", None)
        if requeue and self.received == requeue and callable(self._before.get(requeue)):
            # Submitit's handler, which requeues the job.
            signal.raise_signal(requeue)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Defer signals until ``check()``."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False

    @contextmanager
    def handed_on(self, workers: Callable[[], list[int]]) -> Iterator[None]:
        """Forward signals to processes, given by their ids, which then stop."""
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
            # Not print or a logger: the signal may have interrupted either.
            name = signal.Signals(number).name
            # The terminal may have closed.
            with suppress(OSError):
                os.write(2, f"\n{name}: finishing the step; Ctrl-C stops at once.\n".encode())


def ignore_signals(_: int) -> None:
    """Ignore signals in a worker, and leave them to the main process.

    Terminals and schedulers send them to all processes, and a worker that dies would end the step.
    """
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


def end_with_parent() -> None:
    """End this process of ``multiprocessing`` when its parent is gone.

    The parent may have been killed, and its lock on a run's folder ends with it.
    """

    def wait() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
