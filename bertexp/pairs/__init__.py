"""Sentence pairs: what the two segments are, and what stands in for a second that follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bertexp.registry import Registry

if TYPE_CHECKING:
    from bertexp.pairs.negatives import Negative
    from bertexp.pairs.segments import Segmentation

SEGMENTS: Registry[type[Segmentation]] = Registry("task.segments", "bertexp.pairs")
NEGATIVES: Registry[type[Negative]] = Registry("task.negatives", "bertexp.pairs")

# What the kind of a pair is called whose second segment follows the first.
NEXT = "next"


def negative_shares(negatives: Any) -> dict[str, float]:
    """Return the kinds of negatives and their shares, given as one kind or as shares by name."""
    return dict(negatives) if isinstance(negatives, dict) else {str(negatives): 1.0}
