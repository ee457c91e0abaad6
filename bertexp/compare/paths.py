"""How the interval of each difference narrowed as seeds were added, drawn for the page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from bertexp.compare.results import Comparison, Look


class Path(NamedTuple):
    """One setting's; points are those of an SVG of 100 by 100, whose middle is a difference of 0.

    Attributes:
        reach: the difference at the upper edge.
        band: the outline of the intervals, empty if there is none.
        margin: half the height of the margin.
    """

    setting: str
    seeds: int
    reach: float
    band: str
    line: str
    margin: float


def paths(comparison: Comparison) -> list[Path]:
    """Return each setting's path; all have the same scale."""
    longest = max((len(looks) for looks in comparison.looks.values()), default=0)
    last = [looks[-1] for looks in comparison.looks.values() if looks]
    ends = [end for one in last for end in (one.low, one.high, one.mean) if end is not None]
    reach = 1.25 * max(map(abs, [*ends, comparison.margin]), default=0.0) or 1.0

    def points(found: Iterable[tuple[Look, float | None]]) -> str:
        return " ".join(
            f"{100 * (one.seeds - 1) / max(longest - 1, 1):.2f},"
            f"{50 - 50 * min(max(value / reach, -1), 1):.2f}"
            for one, value in found
            if value is not None
        )

    return [
        Path(
            label,
            len(looks),
            reach,
            points([*((x, x.high) for x in looks), *((x, x.low) for x in reversed(looks))]),
            points((x, x.mean) for x in looks),
            50 * comparison.margin / reach,
        )
        for label, looks in comparison.looks.items()
        if looks
    ]
