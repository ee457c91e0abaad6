"""Looking inside: topics that ``python -m bertexp.inspect what=...`` shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bertexp.registry import Registry

if TYPE_CHECKING:
    from bertexp.inspect.subject import Subject

# A topic prints what it has to show.
TOPICS: Registry[Callable[[Subject], None]] = Registry("what", "bertexp.inspect")
