"""Random numbers that are a pure function of what they are drawn for.

A draw is a hash of a key (seed, purpose, epoch) and counters (example, position), never the next
value of a generator that advances, so that the order of draws and the process do not matter. These
are counter-based generators (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"),
with the finaliser of SplitMix64 (Steele et al. 2014, "Fast splittable pseudorandom number
generators") as the hash.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T")

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def mix(values: np.ndarray) -> np.ndarray:
    """Return SplitMix64's finaliser of each ``uint64``: a bijection in which every bit counts."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))


def combine(state: np.ndarray, counters: np.ndarray | int) -> np.ndarray:
    """Return a new ``uint64`` state for ``state`` and ``counters``, broadcast together."""
    counters = np.atleast_1d(counters).astype(np.uint64)
    return mix(state + (counters + np.uint64(1)) * _GOLDEN)


def key(purpose: str, seed: int, epoch: int) -> np.ndarray:
    """Return the state (``uint64``, shape (1,)) from which all draws for a purpose start."""
    state = np.array([zlib.crc32(purpose.encode())], dtype=np.uint64)
    return combine(combine(state, seed), epoch)


def states(purpose: str, seed: int, epoch: int, counters: np.ndarray | int) -> np.ndarray:
    """Return the state from which draws for a purpose start at each of ``counters``."""
    return combine(key(purpose, seed, epoch), counters)


def permutation(purpose: str, seed: int, epoch: int, count: int) -> np.ndarray:
    """Return the numbers below ``count`` in random order."""
    return np.argsort(states(purpose, seed, epoch, np.arange(count)))


def uniform(state: np.ndarray) -> np.ndarray:
    """Return a ``float64`` in [0, 1) for each state."""
    return (state >> np.uint64(11)) * 2.0**-53


def integers(state: np.ndarray, bound: np.ndarray | int) -> np.ndarray:
    """Return an ``int64`` in [0, bound) for each state; its bias is below bound / 2**53."""
    return (uniform(state) * bound).astype(np.int64)


class LastEpochs(Generic[T]):
    """A function of the epoch that keeps its last two results; pickled, it keeps none.

    Loader workers that are spawned get a pickled copy of what they load from.
    """

    def __init__(self, draw: Callable[[int], T]) -> None:
        self._draw = draw
        self._kept: dict[int, T] = {}

    def __call__(self, epoch: int) -> T:
        if epoch not in self._kept:
            self._kept = dict([*self._kept.items()][-1:]) | {epoch: self._draw(epoch)}
        return self._kept[epoch]

    def __getstate__(self) -> dict[str, object]:
        return {"_draw": self._draw, "_kept": {}}
