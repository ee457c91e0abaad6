"""Families: kinds of encoders of ``transformers``, each one class in one file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bertexp.registry import Registry

if TYPE_CHECKING:
    from bertexp.families.base import Family

# By the `model_type` in their `config.json`.
FAMILIES: Registry[type[Family]] = Registry("family.name", "bertexp.families")
