"""The benchmark's figures as tables and as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from bertexp.bench.race import Race
from bertexp.bench.work import BERTEXP

if TYPE_CHECKING:
    from bertexp.bench.masking import MaskingCost
    from bertexp.bench.preparation import PreparationCost

PARTS = ("data", "forward", "forward and backward", "clipping", "bare loop", "whole loop")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number < 1 else "right")
    return table


def race_table(races: Sequence[Race]) -> Table:
    """Return speed and memory of both sides, and bertexp's speedup and share of each other one."""
    table = _table("model, side", "tokens/s", "±", "speedup", "peak memory", "share")
    for race in races:
        for side in race.measured:
            other = side != BERTEXP
            times, memory = (
                race.speed(BERTEXP) / race.speed(side),
                race.peak_bytes(BERTEXP) / race.peak_bytes(side),
            )
            table.add_row(
                f"{race.model}, {side}",
                f"{race.speed(side):,.0f}",
                f"{race.spread(side):.0%}",
                f"{times:.1f}x" if other else "",
                f"{race.peak_bytes(side) / 1e9:.2f} GB",
                f"{memory:.0%}" if other else "",
            )
    return table


def parts_table(races: Sequence[Race]) -> Table:
    """Return where the time of bertexp's step goes, and how near it is to the machine's limit."""
    table = _table("ms of a step", *(race.model for race in races))
    for name in PARTS:
        table.add_row(name, *(f"{race.part(name):.1f}" for race in races))
    table.add_row("the loop adds", *(f"{race.overhead:+.1%}" for race in races))
    machine = races[0].measured[BERTEXP][0].machine_flops / 1e9
    table.add_row(
        f"forward and backward, of the product's {machine:,.0f} GFLOP/s",
        *(f"{race.model_utilisation:.0%}" for race in races),
    )
    table.add_row("the whole step, of it", *(f"{race.utilisation:.0%}" for race in races))
    return table


def loss_table(races: Sequence[Race]) -> Table:
    """Return how long either side takes to Trainer's last loss."""
    table = _table("model", "its loss", "bertexp's then", "it took", "bertexp took", "bertexp is")
    for race in races:
        ours, theirs = race.losses_at_the_end()
        found = race.seconds_to_loss()
        times = ("not reached",) * 3
        if found:
            times = (
                f"{found[1]:.0f} s",
                f"{found[0]:.0f} s",
                f"{found[1] / found[0]:.1f}x as fast",
            )
        table.add_row(race.model, f"{theirs:.3f}", f"{ours:.3f}", *times)
    return table


def masking_table(cost: MaskingCost) -> Table:
    """Return what drawing masks costs, by strategy."""
    table = _table("masking", "mask", "of a step", "whole batch", "sequences/s")
    for name, batch_ms in cost.batch_ms.items():
        mask_ms = cost.mask_ms.get(name)
        table.add_row(
            name,
            "" if mask_ms is None else f"{mask_ms:.2f} ms",
            "" if mask_ms is None else f"{mask_ms / cost.step_ms:.1%}",
            f"{batch_ms:.2f} ms",
            f"{cost.batch_size / batch_ms * 1e3:,.0f}",
        )
    return table


def preparation_table(cost: PreparationCost) -> Table:
    """Return what it takes from text to stored tokens, beside tokenizing alone."""
    table = _table(f"{cost.megabytes:.0f} MB of text", "seconds", "of encode_batch", "peak memory")
    table.add_row("encode_batch, all cores", f"{cost.encode_batch_seconds:.1f}", "", "")
    for count, seconds in cost.seconds.items():
        table.add_row(
            f"prepared by {count} processes" if count > 1 else "prepared by one process",
            f"{seconds:.1f}",
            f"{seconds / cost.encode_batch_seconds:.2f}x",
            " + ".join(f"{megabytes:,.0f} MB" for megabytes in cost.peak_megabytes[count]),
        )
    table.add_row("the second start", f"{cost.second_start_seconds:.2f}", "", "")
    return table


def write_plot(races: Sequence[Race], path: Path) -> None:
    """Draw tokens a second of both sides, a panel for each model."""
    import matplotlib
    from matplotlib.figure import Figure

    from bertexp.plotting import HUES, INK, STYLE

    names = list(races[0].measured)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.5 + 0.4 * len(names)), layout="constrained")
        panels = figure.subplots(1, len(races), sharey=True, squeeze=False)[0]
        for panel, race in zip(panels, races, strict=True):
            speeds = [race.speed(side) for side in names]
            bars = panel.barh(names, speeds, 0.7, color=HUES[: len(names)])
            panel.bar_label(bars, [f"{each:,.0f}" for each in speeds], padding=3, color=INK)
            panel.set_xlim(0, 1.4 * max(speeds))
            panel.set_title(race.model)
            panel.set_xticks([])
            panel.spines["bottom"].set_visible(False)
        panels[0].invert_yaxis()
        figure.supxlabel("tokens a second")
        figure.savefig(path, metadata={"Software": None})
