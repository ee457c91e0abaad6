"""Heat maps of attention, one a head."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from bertexp.compare.plot_style import HEAT, STYLE
from bertexp.compare.wording import shortened
from bertexp.inspection.attention import Attention

MOST_COLUMNS = 4
# Of longer texts every second or third token is named.
MOST_NAMED = 40


def draw_heads(found: Attention, layer: int | None, path: Path) -> None:
    """Draw every head of a layer, counted from 1, or of the mean over the layers."""
    weights = found.drawn(layer)
    heads, count = len(weights), len(found.tokens)
    columns = min(heads, MOST_COLUMNS)
    rows = math.ceil(heads / columns)
    side = min(max(0.16 * count, 1.8), 6.0)
    step = math.ceil(count / MOST_NAMED)
    names = [shortened(token) for token in found.tokens[::step]]
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # A token in a script that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", "Glyph")
        figure = Figure(
            figsize=(columns * (side + 0.5) + 1.6, rows * (side + 0.5) + 1.2),
            layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.1),
        )
        grid = figure.subplots(rows, columns, squeeze=False)
        image: Any = None
        for number, axes in enumerate(grid.flat):
            if number >= heads:
                axes.set_visible(False)
                continue
            image = axes.imshow(weights[number], cmap=HEAT, vmin=0, vmax=float(weights.max()))
            axes.set_title(f"head {number + 1}", fontsize=10, loc="left")
            axes.set_xticks(range(0, count, step), names, rotation=90, fontsize=8)
            axes.set_yticks(range(0, count, step), names, fontsize=8)
            # Named where no other map is beneath, or to the left.
            below, left = number + columns >= heads, number % columns == 0
            axes.tick_params(length=0, labelbottom=below, labelleft=left)
            axes.spines[:].set_visible(False)
            axes.grid(visible=False)
        where = "mean over the layers" if layer is None else f"layer {layer}"
        figure.suptitle(f"Attention, {where}", x=0.01, ha="left", fontsize=11)
        figure.supxlabel("attended to", fontsize=9)
        figure.supylabel("attending", fontsize=9)
        bar = figure.colorbar(image, ax=grid, aspect=30)
        bar.set_label("share of attention", fontsize=9)
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
        figure.savefig(path, metadata={"Software": None})
