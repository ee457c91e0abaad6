"""Arrays of unequal parts, laid end to end, and arrays in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def save_array(path: Path, array: np.ndarray) -> None:
    """Write a file as ``np.save`` does, which does not notice that a disk is full."""
    array = np.ascontiguousarray(array)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data)


def ranges(counts: np.ndarray, starts: np.ndarray | int = 0) -> np.ndarray:
    """Return ``counts[i]`` numbers from ``starts[i]`` on for each i, of shape (counts.sum(),)."""
    before = np.cumsum(counts) - counts
    return np.arange(counts.sum()) + np.repeat(starts - before, counts)
