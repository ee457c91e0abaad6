"""The embedding table in two dimensions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bertexp.inspect.embeddings import DRAWN, Neighbourhood
from bertexp.plotting import FAINT, HUES, INK, OTHERS, STYLE


def draw_embeddings(
    found: Neighbourhood, points_V2: np.ndarray, tokens: Sequence[str], path: Path
) -> None:
    """Draw all tokens faintly, and by name those that were looked up with their neighbours.

    Each token has its neighbours' colour, and a line to each.
    """
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # A token in a script that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", "Glyph")
        figure = Figure(figsize=(8.0, 6.0), layout="constrained")
        axes = figure.add_subplot()
        axes.scatter(
            points_V2[:, 0], points_V2[:, 1], s=4, color=OTHERS, alpha=0.35, lw=0, rasterized=True
        )
        named: set[int] = set(found.ids)
        for number, (index, nearest) in enumerate(zip(found.ids, found.nearest, strict=True)):
            hue = HUES[number % len(HUES)]
            for other in nearest[:DRAWN].tolist():
                axes.plot(*points_V2[[index, other]].T, color=hue, lw=0.8, alpha=0.5)
                x, y = points_V2[other]
                axes.scatter(x, y, s=16, color=hue, lw=0)
                if other not in named:
                    named.add(other)
                    _name(axes, tokens[other], points_V2[other], FAINT, "normal")
            x, y = points_V2[index]
            axes.scatter(x, y, s=44, color=hue, lw=0, zorder=3)
            _name(axes, tokens[index], points_V2[index], INK, "bold")
        seen_S2 = points_V2[sorted(named)]
        margin_2 = 0.12 * np.ptp(seen_S2, axis=0) + 1e-9
        low_2, high_2 = seen_S2.min(0) - margin_2, seen_S2.max(0) + margin_2
        axes.set_xlim(low_2[0], high_2[0])
        axes.set_ylim(low_2[1], high_2[1])
        axes.set_xlabel("first principal component")
        axes.set_ylabel("second principal component")
        figure.savefig(path, metadata={"Software": None})


def _name(axes: Axes, token: str, point: np.ndarray, colour: str, weight: str) -> None:
    axes.annotate(
        token,
        (float(point[0]), float(point[1])),
        (4, 3),
        textcoords="offset points",
        fontsize=8,
        color=colour,
        weight=weight,
    )
