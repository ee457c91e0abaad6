"""Figures of the hidden states over the layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from bertexp.inspect.hidden import HiddenState
from bertexp.plotting import HUES, STYLE

PANELS = {
    "norm": "norm of a token's vector",
    "cosine": "cosine between two tokens",
    "change": "change from the layer before",
}


def draw_hidden(states: Sequence[HiddenState], path: Path) -> None:
    """Draw norm, cosine and change over the layers, 0 being the embeddings."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.0), layout=ConstrainedLayoutEngine(w_pad=0.1))
        for axes, (name, title), hue in zip(
            figure.subplots(1, len(PANELS)), PANELS.items(), HUES, strict=False
        ):
            values = [(layer, getattr(state, name)) for layer, state in enumerate(states)]
            known = [(layer, value) for layer, value in values if value is not None]
            axes.plot(*zip(*known, strict=True), "o-", color=hue, lw=2, ms=5, clip_on=False)
            axes.set_title(title, fontsize=10, loc="left")
            axes.set_xlabel("layer")
            axes.set_xlim(0, len(states) - 1)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            measured = [value for _, value in known]
            axes.set_ylim(min(0, *measured), 1.1 * max(measured))
        figure.savefig(path, metadata={"Software": None})
