"""How all pictures look: as a paper prints them, dark on white, safe for the colour-blind.

A picture is drawn within ``drawing()``, and written by ``save``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bertexp.console import shortened_apart

INK, FAINT, OTHERS, GRID = "#222222", "#767676", "#b0b0b0", "#e6e6e6"
# Okabe and Ito (2008), without their yellow, which is invisible on white.
HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")
# The part of ``plasma`` that stands out from white; lower values are darker, in grey as well.
RAMP = LinearSegmentedColormap.from_list(
    "ramp", [matplotlib.colormaps["plasma"](x) for x in (0.0, 0.2, 0.4, 0.6, 0.78)]
)
HEAT = LinearSegmentedColormap.from_list("heat", ["#ffffff", "#f4c7a1", "#d9793f", "#9c3a10"])
LINES, MARKERS = ("-", "--", ":", "-."), "osD^"

STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    # Labels are text: a dollar sign does not start a formula.
    "text.parse_math": False,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.dpi": 200,
    # Type 3 fonts, the default, are refused by some publishers.
    "pdf.fonttype": 42,
    "svg.hashsalt": "bertexp",
}


@contextmanager
def drawing() -> Iterator[None]:
    """Apply the style within a ``with`` block."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # A character in a script that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", "Glyph")
        yield


def save(figure: Figure, path: Path) -> Path:
    """Write a picture without date and version in it, as PNG, PDF or SVG; returns ``path``."""
    unwanted = {".pdf": "CreationDate", ".svg": "Date"}.get(path.suffix, "Software")
    with drawing():
        figure.savefig(path, metadata={unwanted: None})
    return path


def legend(
    figure: Figure, handles: Sequence[Line2D], labels: Sequence[str], title: str | None = None
) -> None:
    """Put a legend beside the plot if its labels are short, else below."""
    short = shortened_apart(labels)
    labels = [short[label] for label in labels]
    longest = max(map(len, labels))
    if longest <= 14:
        figure.legend(handles, labels, loc="outside right upper", title=title, fontsize=9)
        return
    columns = 1 if longest > 40 else 2
    figure.set_figheight(figure.get_figheight() + 0.2 * math.ceil(len(labels) / columns))
    figure.legend(
        handles, labels, loc="outside lower center", title=title, ncols=columns, fontsize=9
    )
