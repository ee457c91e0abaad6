"""Tasks: what is predicted, from which examples, and how they are batched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bertexp.registry import Registry

if TYPE_CHECKING:
    from bertexp.tasks.base import Task

TASKS: Registry[type[Task]] = Registry("task.name", "bertexp.tasks")
