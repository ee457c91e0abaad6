"""Masking: which tokens are predicted, and what replaces them.

A strategy (``strategies``, ``runs``, ``weighted``) partitions text into units; the ``masker`` draws
units at a rate of ``rates``, or at one that ``config`` schedules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bertexp.registry import Registry

if TYPE_CHECKING:
    from bertexp.masking.strategies import Strategy

STRATEGIES: Registry[type[Strategy]] = Registry(
    "masking.strategy", "bertexp.masking", later="masking.schedule.strategies"
)
