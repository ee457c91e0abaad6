"""Objectives, which a model learns to predict: one class in one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bertexp.registry import Registry

if TYPE_CHECKING:
    from bertexp.objectives.base import Objective

OBJECTIVES: Registry[type[Objective]] = Registry("task.objectives", "bertexp.objectives")
