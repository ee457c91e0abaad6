"""Masking: which tokens are predicted, and what replaces them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bertexp.registry import Registry

if TYPE_CHECKING:
    from bertexp.masking.strategies import Strategy

STRATEGIES: Registry[type[Strategy]] = Registry(
    "masking.strategy", "bertexp.masking", later="masking.schedule.strategies"
)
