"""Masking: which tokens are predicted, and what stands in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bertexp.registry import Registry

if TYPE_CHECKING:
    from bertexp.masking.strategies import Strategy

STRATEGIES: Registry[type[Strategy]] = Registry("masking.strategy", "bertexp.masking")
