"""Heat maps of attention, one a head or a layer."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from bertexp.console import shortened
from bertexp.inspect.attention import Attention
from bertexp.plotting import HEAT, STYLE

MOST_COLUMNS = 4
# Of longer texts every second or third token is named.
MOST_NAMED = 40


def draw_attention(found: Attention, layer: int | None, path: Path) -> None:
    """Draw every head of a layer, counted from 1; for None every layer, the mean of its heads."""
    maps, count = found.drawn(layer), len(found.tokens)
    columns, most = min(len(maps), MOST_COLUMNS), max(float(one.max()) for one in maps.values())
    rows = math.ceil(len(maps) / columns)
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
        for axes in grid.flat[len(maps) :]:
            axes.set_visible(False)
        for number, (axes, name) in enumerate(zip(grid.flat, maps, strict=False)):
            image = axes.imshow(maps[name], cmap=HEAT, vmin=0, vmax=most)
            axes.set_title(name, fontsize=10, loc="left")
            axes.set_xticks(range(0, count, step), names, rotation=90, fontsize=8)
            axes.set_yticks(range(0, count, step), names, fontsize=8)
            # Named where no other map is beneath, or to the left.
            below, left = number + columns >= len(maps), number % columns == 0
            axes.tick_params(length=0, labelbottom=below, labelleft=left)
            axes.spines[:].set_visible(False)
            axes.grid(visible=False)
        where = "mean over the heads of each layer" if layer is None else f"layer {layer}"
        figure.suptitle(f"Attention, {where}", x=0.01, ha="left", fontsize=11)
        figure.supxlabel("attended to", fontsize=9)
        figure.supylabel("attending", fontsize=9)
        bar = figure.colorbar(image, ax=grid, aspect=30)
        bar.set_label("share of attention", fontsize=9)
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
        figure.savefig(path, metadata={"Software": None})
