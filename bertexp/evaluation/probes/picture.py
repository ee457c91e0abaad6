"""The layer-by-layer curve of every probe, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bertexp.evaluation.probes.measure import Probed

PICTURE = "probes.png"
COLUMNS = 4


def draw_probes(found: Sequence[Probed], folder: Path) -> list[Path]:
    """Draw accuracies over the layers, 0 being the embeddings, beside the two yardsticks.

    Returns:
        The picture in ``folder``; nothing where nothing was probed.
    """
    if not found:
        return []
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from bertexp.plotting import FAINT, HUES, STYLE

    columns, rows = min(len(found), COLUMNS), -(-len(found) // COLUMNS)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.8 + 2.6 * columns, 0.5 + 2.5 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True).flat
        for axes, probed in zip(panels, found, strict=False):
            axes.axhline(probed.tfidf, color=HUES[1], ls="--", lw=1.5, label="TF-IDF")
            axes.axhline(probed.majority, color=FAINT, ls=":", lw=1.5, label="majority class")
            axes.plot(probed.layers, "o-", color=HUES[0], lw=2, ms=5, label="frozen features")
            axes.set_title(probed.name, fontsize=10, loc="left")
            axes.set_xlabel("layer")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_ylim(0, 1.02)
        for axes in [*panels][len(found) :]:
            axes.set_visible(False)
        first = figure.axes[0]
        first.set_ylabel("accuracy")
        handles, labels = first.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
        figure.savefig(folder / PICTURE, metadata={"Software": None})
    return [folder / PICTURE]
