"""Sentence pairs: their segments, and the negatives in place of a segment that follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bertexp.registry import Registry

if TYPE_CHECKING:
    from bertexp.pairs.negatives import Negative
    from bertexp.pairs.segments import Segmentation

SEGMENTS: Registry[type[Segmentation]] = Registry("task.segments", "bertexp.pairs")
NEGATIVES: Registry[type[Negative]] = Registry("task.negatives", "bertexp.pairs")

# The kind of a pair whose second segment follows the first.
NEXT = "next"


def negative_shares(negatives: Any) -> dict[str, float]:
    """Return the kinds of negatives with their shares, from one kind or from shares by kind."""
    return dict(negatives) if isinstance(negatives, dict) else {str(negatives): 1.0}
