"""The embedding table in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from bertexp.compare.plot_style import FAINT, HUES, INK, OTHERS, STYLE
from bertexp.inspection.embeddings import Neighbourhood


def draw_embeddings(
    found: Neighbourhood, points_V2: np.ndarray, tokens: Sequence[str], path: Path
) -> None:
    """Draw all tokens faintly, and by name those that were looked up with their neighbours.

    Each token has its neighbours' colour, and a line to each.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.0, 6.0), layout="constrained")
        axes = figure.add_subplot()
        axes.scatter(*points_V2.T, s=4, color=OTHERS, alpha=0.35, lw=0, rasterized=True)
        named: set[int] = set(found.ids)
        for number, (index, nearest) in enumerate(zip(found.ids, found.nearest, strict=True)):
            hue = HUES[number % len(HUES)]
            for other in nearest.tolist():
                axes.plot(*points_V2[[index, other]].T, color=hue, lw=0.8, alpha=0.5)
                axes.scatter(*points_V2[other], s=16, color=hue, lw=0)
                if other not in named:
                    named.add(other)
                    _name(axes, tokens[other], points_V2[other], FAINT, "normal")
            axes.scatter(*points_V2[index], s=44, color=hue, lw=0, zorder=3)
            _name(axes, tokens[index], points_V2[index], INK, "bold")
        axes.set_xlabel("first principal component")
        axes.set_ylabel("second principal component")
        figure.savefig(path, metadata={"Software": None})


def _name(axes: object, token: str, point: np.ndarray, colour: str, weight: str) -> None:
    axes.annotate(  # type: ignore[attr-defined]
        token, point, (4, 3), textcoords="offset points", fontsize=8, color=colour, weight=weight
    )
