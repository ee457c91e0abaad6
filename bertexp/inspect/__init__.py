"""Looking inside: topics that ``python -m bertexp.inspect what=...`` shows."""

from __future__ import annotations

from collections.abc import Callable

from bertexp.registry import Registry

# A topic takes the subject, and prints what it has to show.
TOPICS: Registry[Callable[..., None]] = Registry("what", "bertexp.inspect")
