"""The attention page: one HTML file in which layer and head are picked."""

from __future__ import annotations

import base64
import textwrap
from pathlib import Path

import numpy as np

from bertexp.inspect.attention import Attention
from bertexp.pages import render_page

ASSETS = Path(__file__).parent / "assets"
# Weights are stored as whole numbers up to this: their error is below 1e-5.
SCALE = 65535
# Of the text, shown above the maps: what is longer is cut.
TITLE = 160


def write_page(found: Attention, name: str, path: Path) -> None:
    """Write the page of a model's attention to one text.

    Args:
        found: the attention.
        name: what the model is.
        path: where to write it.
    """
    path.write_text(render(found, name), encoding="utf-8")


def render(found: Attention, name: str) -> str:
    """Return the page's HTML."""
    layers, heads = found.weights.shape[:2]
    weights = np.round(found.weights.numpy() * SCALE).astype("<u2")
    return render_page(
        ASSETS,
        styles=("attention.css",),
        scripts=("attention.js",),
        name=name,
        text=textwrap.shorten(" ".join(found.tokens), TITLE, placeholder=" …"),
        layers=layers,
        heads=heads,
        data={
            "tokens": found.tokens,
            "layers": layers,
            "heads": heads,
            "scale": SCALE,
            "entropy": found.entropy.round(decimals=4).tolist(),
            "distance": found.distance.round(decimals=4).tolist(),
            "weights": base64.b64encode(weights.tobytes()).decode(),
        },
    )
