"""The topics of ``python -m bertexp.inspect what=...``."""

from __future__ import annotations

from collections.abc import Callable

from bertexp.registry import Registry

# A topic is a function of the subject that prints.
TOPICS: Registry[Callable[..., None]] = Registry("what", "bertexp.inspect")
