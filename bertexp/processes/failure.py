"""What went wrong in one of several processes, told by whichever of them is asked."""

from __future__ import annotations

import json
import traceback
from dataclasses import asdict, dataclass
from typing import NoReturn

from bertexp import group
from bertexp.validation import UserError, is_mistake


@dataclass(frozen=True)
class Failure:
    """An error as it goes from process to process.

    Attributes:
        rank: whose it was.
        message: what it says, the name of its type before it where it is a bug.
        is_mistake: whether the message says all there is to it.
        traceback: where it was raised.
    """

    rank: int
    message: str
    is_mistake: bool
    traceback: str

    @classmethod
    def first(cls, error: Exception) -> Failure:
        """Return this process's error, or that of another which came before it.

        When one process ends, the others fail because they cannot reach it any more; its own
        error is the one to tell.
        """
        found = is_mistake(error)
        own = cls(
            rank=group.rank(),
            message=str(error) if found else f"{type(error).__name__}: {error}",
            is_mistake=found,
            traceback="".join(traceback.format_exception(error)),
        )
        return cls.read(group.first_to_say(own.text()))

    @classmethod
    def known(cls) -> Failure | None:
        """Return the error that one of the processes has had, if any."""
        text = group.said()
        return None if text is None else cls.read(text)

    @classmethod
    def read(cls, text: str) -> Failure:
        """Return what ``text`` gave."""
        return cls(**json.loads(text))

    def text(self) -> str:
        """Return all of it in one line."""
        return json.dumps(asdict(self))

    def raise_here(self) -> NoReturn:
        """Raise it as an error of this process."""
        if self.is_mistake:
            raise UserError(self.message) from None
        elsewhere = _Elsewhere(f"\n{self.traceback}")
        raise RuntimeError(f"process {self.rank}: {self.message}") from elsewhere


class _Elsewhere(Exception):
    """An error of another process, whose text is its traceback."""
