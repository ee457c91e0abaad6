"""Looking inside: topics that ``python -m bertexp.inspect what=...`` shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bertexp.registry import Registry

if TYPE_CHECKING:
    from bertexp.inspection.config import InspectConfig

# A topic prints what it has to show.
TOPICS: Registry[Callable[[InspectConfig], None]] = Registry("what", "bertexp.inspection")
