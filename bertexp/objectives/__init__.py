"""Objectives: what a model learns to predict, each one class in one file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bertexp.registry import Registry

if TYPE_CHECKING:
    from bertexp.objectives.base import Objective

OBJECTIVES: Registry[type[Objective]] = Registry("task.objectives", "bertexp.objectives")
