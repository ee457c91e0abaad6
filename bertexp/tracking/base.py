"""A tracker whose failures do not end the run."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker, on_main_process

from bertexp.validation import UserError, first_line

logger = logging.getLogger(__name__)

Metrics = Mapping[str, float]


class SafeTracker(GeneralTracker):
    """One of Accelerate's trackers, made safe for long runs.

    Nothing happens before ``start``, which Accelerate calls on the main process only. If the
    tracker fails, there is one warning and the run continues without it; the metrics are in
    ``metrics.jsonl`` in any case. A tracker that hangs is waited for once and then abandoned. Only
    ``start`` raises, and only a ``UserError``. Subclasses override the methods with an underscore
    that their service supports, and set ``location`` once it is known.

    Attributes:
        location: where to look: an address, or commands, one a line; ``None`` before the start.
        seconds_to_answer: the time limit for starting and logging.
        seconds_to_finish: the time limit for sending the rest.
    """

    seconds_to_answer = 60.0
    seconds_to_finish = 150.0

    name = "safe"
    requires_logging_directory = False

    def __init__(self, inner: GeneralTracker) -> None:
        super().__init__()
        self.location: str | None = None
        self._inner = inner
        self._running = False
        self._warned = False

    @property
    def tracker(self) -> object:
        """The object that Accelerate's tracker writes to: W&B's run, TensorBoard's writer."""
        return self._inner.tracker

    @on_main_process
    def start(self) -> None:
        """Open the tracker.

        Raises:
            UserError: it cannot be opened as configured.
        """
        self._running = True
        self._attempt(self._start)
        self._running = not self._warned

    def log(self, values: Metrics, step: int | None = None) -> None:
        self._attempt(lambda: self._log(values, step))

    def log_rows(self, name: str, columns: list[str], rows: list[list[Any]]) -> None:
        self._attempt(lambda: self._log_rows(name, columns, rows))

    def log_pictures(self, name: str, paths: Sequence[Path]) -> None:
        self._attempt(lambda: self._log_pictures(name, paths))

    def describe(self, values: Mapping[str, Any]) -> None:
        self._attempt(lambda: self._describe(values))

    def stop(self, number: int) -> None:
        """Record that the signal ``number`` ends the run, which can be resumed."""
        self._attempt(lambda: self._stop(number))

    def close(self, failed: bool) -> None:
        """End the tracked run as failed or finished; a second call does nothing."""
        self._attempt(lambda: self._finish(failed), self.seconds_to_finish)
        self._running = False

    def finish(self) -> None:
        """End the tracked run as finished; Accelerate calls this at the end of training."""
        self.close(failed=False)

    def _attempt(self, action: Callable[[], None], seconds: float | None = None) -> None:
        if not self._running:
            return
        try:
            within(seconds or self.seconds_to_answer, action)
        except UserError:
            self._running = False
            raise
        except Exception as error:
            if not self._warned:
                self._warned = True
                reason = first_line(error)
                logger.warning("%s: %s. The run continues without it.", self.name, reason)
            if isinstance(error, Unanswered):
                self._running = False
                with contextlib.suppress(Exception):
                    within(self.seconds_to_answer, self._abandon)

    def _start(self) -> None:
        self._inner.start()

    def _log(self, values: Metrics, step: int | None) -> None:
        self._inner.log(values, step=step)

    def _log_rows(self, name: str, columns: list[str], rows: list[list[Any]]) -> None:
        pass

    def _log_pictures(self, name: str, paths: Sequence[Path]) -> None:
        pass

    def _describe(self, values: Mapping[str, Any]) -> None:
        pass

    def _stop(self, number: int) -> None:
        pass

    def _finish(self, failed: bool) -> None:
        self._inner.finish()

    def _abandon(self) -> None:
        """Keep a tracker that hangs from delaying the end of the process."""


class Unanswered(Exception):
    """A tracker hangs."""


def within(seconds: float, action: Callable[[], None]) -> None:
    """Run ``action`` in a thread, which is abandoned if it hangs.

    Raises:
        Unanswered: it has not finished after so many seconds.
        Exception: whatever it raises before.
    """
    raised: list[BaseException] = []

    def work() -> None:
        try:
            action()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise Unanswered(f"does not answer, after {seconds:g} seconds")
    if raised:
        raise raised[0]
