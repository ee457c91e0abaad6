"""What was measured of bertexp and the other sides, its tables and its plot."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.table import Table

from bertexp.bench.work import BERTEXP, OTHER, Measured
from bertexp.console import show, table

Figures = dict[str, dict[str, Any]]

PARTS = ("data", "forward", "forward and backward", "clipping", "bare loop", "whole loop")
# Panels of the plot in a row.
ACROSS = 4


@dataclass(frozen=True)
class Race:
    """The measurements of all processes in one setting.

    Attributes:
        setting: what the tables call it.
        measured: by side, its processes in order.
        to_loss: the processes of bertexp and Trainer that trained up to a loss; may be empty.
    """

    setting: str
    measured: dict[str, list[Measured]]
    to_loss: dict[str, Measured]

    def figures(self) -> dict[str, Any]:
        """Return medians over the processes, and the single measurements.

        ``sides`` has each side's tokens a second, their spread (half the difference between the
        fastest and slowest window, relative to the median), peak memory, bertexp's relative to
        these, and the seconds of its warm-up. ``overhead`` is that of the loop relative to a bare
        one on the same batches.
        ``utilisation`` is bertexp's floating-point operations a second relative to the machine's
        matrix product, ``model_utilisation`` that of forward and backward alone: encoder, head and
        loss. ``seconds_to_loss`` are bertexp's and Trainer's up to Trainer's last loss, None if
        bertexp did not reach it; ``losses`` are those after as many steps.
        """
        own = self.measured[BERTEXP]
        sides: dict[str, dict[str, float]] = {}
        for side, each in self.measured.items():
            if not each:
                continue
            speeds = [speed for one in each for speed in one.speeds]
            speed, peak = median(speeds), median(one.peak_bytes for one in each)
            ours = sides.get(BERTEXP, {"tokens_per_second": speed, "peak_bytes": peak})
            sides[side] = {
                "tokens_per_second": speed,
                "spread": (max(speeds) - min(speeds)) / 2 / speed,
                "peak_bytes": peak,
                "warmup_seconds": median(one.warmup_seconds for one in each),
                "speedup": ours["tokens_per_second"] / speed,
                "memory": ours["peak_bytes"] / peak,
            }
        found = {
            "sides": sides,
            "overhead": median(one.overhead for one in own),
            "utilisation": median(one.flops / one.machine_flops for one in own),
        }
        if own[0].parts:
            found["model_utilisation"] = median(
                1e3 * one.batch_flops / one.parts["forward and backward"] / one.machine_flops
                for one in own
            )
        return found | self._losses() | asdict(self)

    def _losses(self) -> dict[str, Any]:
        if not self.to_loss:
            return {}
        ours, theirs = self.to_loss.values()
        ((steps, seconds, loss),) = theirs.losses
        looks = ours.losses
        reached = next((took for _, took, own_loss in looks if own_loss <= loss), None)
        return {
            "seconds_to_loss": None if reached is None else (reached, seconds),
            "losses": (next(own for step, _, own in looks if step == steps), loss),
        }


def report(found: Figures, folder: Path) -> None:
    """Print the tables, and draw ``bench.png`` in ``folder``."""
    one = next(iter(found.values()))
    device = one["measured"][BERTEXP][0]["device"]
    print(", ".join(filter(None, [device, f"torch {torch.__version__}"])))
    show(_speeds(found))
    show(_parts(found) if "model_utilisation" in one else _use(found))
    if "losses" in one:
        show(_losses(found))
    _draw(found, folder / "bench.png")
    print(folder / "bench.png")


def _speeds(found: Figures) -> Table:
    rows = []
    for setting, figures in found.items():
        for side, own in figures["sides"].items():
            times = f"{own['speedup']:.{2 if side == OTHER else 1}f}x"
            speed, memory = f"{own['tokens_per_second']:,.0f}", f"{own['peak_bytes'] / 1e9:.2f} GB"
            beside = ("", "") if side == BERTEXP else (times, f"{own['memory']:.0%}")
            cells = (speed, f"{own['spread']:.0%}", beside[0], memory, beside[1])
            rows.append((f"{setting}, {side}", *cells, f"{own['warmup_seconds']:.1f} s"))
    columns = ("tokens/s", "±", "speedup", "memory", "share", "warm-up")
    return table("setting, side", *columns, rows=rows)


def _use(found: Figures) -> Table:
    """Return what bertexp's steps make of the GPU; one that is replayed has no parts."""
    rows = []
    for setting, figures in found.items():
        flops = median(one["flops"] for one in figures["measured"][BERTEXP])
        rows.append((setting, f"{flops / 1e12:.1f}", f"{figures['utilisation']:.0%}"))
    machine = next(iter(found.values()))["measured"][BERTEXP][0]["machine_flops"] / 1e12
    return table("bertexp", "TFLOP/s", f"of the product's {machine:,.0f}", rows=rows)


def _parts(found: Figures) -> Table:
    own = [figures["measured"][BERTEXP] for figures in found.values()]
    machine = own[0][0]["machine_flops"] / 1e9
    product = f"forward and backward, of the product's {machine:,.0f} GFLOP/s"
    rows = []
    for name in PARTS:
        rows.append((name, *(f"{median(one['parts'][name] for one in each):.1f}" for each in own)))
    for name, key, form in (
        ("the loop adds", "overhead", "+.1%"),
        (product, "model_utilisation", ".0%"),
        ("the whole step, of it", "utilisation", ".0%"),
    ):
        rows.append((name, *(format(figures[key], form) for figures in found.values())))
    return table("ms of a step", *found, rows=rows)


def _losses(found: Figures) -> Table:
    rows = []
    for model, figures in found.items():
        (ours, theirs), seconds = figures["losses"], figures["seconds_to_loss"]
        cells = ("not reached",) * 3
        if seconds:
            took, their = seconds
            cells = (f"{their:.0f} s", f"{took:.0f} s", f"{their / took:.1f}x as fast")
        rows.append((model, f"{theirs:.3f}", f"{ours:.3f}", *cells))
    columns = ("model", "its loss", "bertexp's then", "it took", "bertexp took", "bertexp is")
    return table(*columns, rows=rows)


def _draw(found: Figures, path: Path) -> None:
    from matplotlib.figure import Figure

    from bertexp.plotting import HUES, INK, drawing, save

    names = max(([*figures["sides"]] for figures in found.values()), key=len)
    with drawing():
        across = min(len(found), ACROSS)
        down = -(-len(found) // across)
        figure = Figure(figsize=(7.2, down * (0.5 + 0.4 * len(names))), layout="constrained")
        panels = figure.subplots(down, across, sharey=True, squeeze=False).flatten()
        for panel in panels[len(found) :]:
            panel.set_visible(False)
        for panel, (setting, figures) in zip(panels, found.items(), strict=False):
            speeds = [own["tokens_per_second"] for own in figures["sides"].values()]
            own = [names.index(side) for side in figures["sides"]]
            bars = panel.barh(own, speeds, 0.7, color=[HUES[place] for place in own])
            panel.bar_label(bars, [f"{each:,.0f}" for each in speeds], padding=3, color=INK)
            panel.set_xlim(0, 1.4 * max(speeds))
            panel.set_title(setting)
            panel.set_xticks([])
            panel.spines["bottom"].set_visible(False)
        panels[0].set_yticks(range(len(names)), names)
        panels[0].invert_yaxis()
        figure.supxlabel("tokens a second")
        save(figure, path)
