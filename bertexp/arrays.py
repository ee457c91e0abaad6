"""Arrays of unequal parts, laid end to end."""

from __future__ import annotations

import numpy as np


def ranges(counts: np.ndarray, starts: np.ndarray | int = 0) -> np.ndarray:
    """Return ``counts[i]`` numbers from ``starts[i]`` on for each i, of shape (counts.sum(),)."""
    before = np.cumsum(counts) - counts
    return np.arange(counts.sum()) + np.repeat(starts - before, counts)
