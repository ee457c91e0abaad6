"""bertexp beside Hugging Face's Trainer, or another commit: fresh processes, in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from rich.table import Table

from bertexp.bench.config import ENTRY, BenchConfig, MeasureConfig
from bertexp.bench.work import BERTEXP, LONGEST, PADDED, PREPARE, TRAINER, TUNED, Measured
from bertexp.console import show, table
from bertexp.files import expanded
from bertexp.validation import UserError

# bertexp of another checkout.
OTHER = "bertexp, against"

Figures = dict[str, dict[str, Any]]

PARTS = ("data", "forward", "forward and backward", "clipping", "bare loop", "whole loop")


@dataclass(frozen=True)
class Race:
    """The measurements of all processes on one model.

    Attributes:
        measured: by side, its processes in order.
        to_loss: the processes of bertexp and Trainer that trained up to a loss; may be empty.
    """

    model: str
    measured: dict[str, list[Measured]]
    to_loss: dict[str, Measured]

    def figures(self) -> dict[str, Any]:
        """Return medians over the processes, and the single measurements.

        ``sides`` has each side's tokens a second, their spread (half the difference between the
        fastest and slowest process, relative to the median), peak memory, and bertexp's relative
        to these. ``overhead`` is that of the loop relative to a bare one on the same batches.
        ``utilisation`` is bertexp's floating-point operations a second relative to the machine's
        matrix product, ``model_utilisation`` that of forward and backward alone: encoder, head and
        loss. ``seconds_to_loss`` are bertexp's and Trainer's up to Trainer's last loss, None if
        bertexp did not reach it; ``losses`` are those after as many steps.
        """
        own = self.measured[BERTEXP]
        sides: dict[str, dict[str, float]] = {}
        for side, each in self.measured.items():
            speeds = [one.tokens / one.seconds for one in each]
            speed, peak = median(speeds), median(one.peak_bytes for one in each)
            ours = sides.get(BERTEXP, {"tokens_per_second": speed, "peak_bytes": peak})
            sides[side] = {
                "tokens_per_second": speed,
                "spread": (max(speeds) - min(speeds)) / 2 / speed,
                "peak_bytes": peak,
                "speedup": ours["tokens_per_second"] / speed,
                "memory": ours["peak_bytes"] / peak,
            }
        found = {
            "sides": sides,
            "overhead": median(one.overhead for one in own),
            "utilisation": median(one.flops / one.machine_flops for one in own),
            "model_utilisation": median(
                1e3 * one.batch_flops / one.parts["forward and backward"] / one.machine_flops
                for one in own
            ),
        }
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


def measure_training(config: BenchConfig, overrides: Sequence[str], folder: Path) -> Figures:
    """Measure every model, and print and draw the results; returns the figures by model.

    Raises:
        UserError: something cannot be measured, or a process failed.
    """
    bench = config.bench.shortened()
    races = [_race(bench, name, overrides, config.task.name) for name in bench.models]
    found = {race.model: race.figures() for race in races}
    show(_speeds(found))
    show(_parts(found))
    if bench.loss_steps:
        show(_losses(found))
    _draw(found, folder / "bench.png")
    print(folder / "bench.png")
    return found


def _race(bench: MeasureConfig, model: str, overrides: Sequence[str], task: str) -> Race:
    others = (PADDED, LONGEST) if task == "nsp" else (TRAINER, TUNED)
    sides = (BERTEXP, OTHER) if bench.against else (BERTEXP, *others)
    measured: dict[str, list[Measured]] = {side: [] for side in sides}
    to_loss = {}
    with TemporaryDirectory(prefix="bertexp-bench-") as folder:
        processes = _Processes(bench, model, overrides, Path(folder))
        processes.run(PREPARE)
        for turn in range(bench.repeats):
            for side in sides:
                print(f"{model} · {side} · {turn + 1} of {bench.repeats}", flush=True)
                measured[side].append(processes.measure(side))
        if bench.loss_steps:
            for side in (BERTEXP, LONGEST if task == "nsp" else TRAINER):
                print(f"{model} · {side} · {bench.loss_steps} steps", flush=True)
                to_loss[side] = processes.measure(side, bench.loss_steps)
    return Race(model, measured, to_loss)


@dataclass(frozen=True)
class _Processes:
    bench: MeasureConfig
    model: str
    overrides: Sequence[str]
    folder: Path

    def measure(self, side: str, loss_steps: int = 0) -> Measured:
        result = self.run(side, loss_steps)
        found = Measured(**json.loads(result.read_text(encoding="utf-8")))
        result.unlink()
        return found

    def run(self, side: str, loss_steps: int = 0) -> Path:
        bench, result = self.bench, self.folder / "result.json"
        own = [each for each in self.overrides if not each.lstrip("+").startswith("bench.")]
        # The keys that a side reads; every version has these.
        own += [f"bench.warmup={bench.warmup}", f"bench.vocab_size={bench.vocab_size}"]
        # Up to a loss both train at the same rates, whatever the budget.
        own += ["scheduler=constant"] if loss_steps else []
        order = {
            "side": BERTEXP if side == OTHER else side,
            "model": self.model,
            "overrides": own,
            "folder": str(self.folder / "model"),
            "result": str(result),
            "steps": bench.warmup + bench.steps,
            "loss_steps": loss_steps,
        }
        start, environment = ["-m", ENTRY[0]], dict(os.environ)
        if side == OTHER:
            # Without -P the current folder, perhaps another checkout, would take precedence.
            start = ["-P", "-m", str(bench.entry)]
            environment["PYTHONPATH"] = str(expanded(str(bench.against)).absolute())
        command = [sys.executable, *start, json.dumps(order)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise UserError((done.stderr.strip().splitlines() or [f"bench: {side} failed"])[-1])
        return result


def _speeds(found: Figures) -> Table:
    rows = []
    for model, figures in found.items():
        for side, own in figures["sides"].items():
            times = f"{own['speedup']:.{2 if side == OTHER else 1}f}x"
            speed, memory = f"{own['tokens_per_second']:,.0f}", f"{own['peak_bytes'] / 1e9:.2f} GB"
            beside = ("", "") if side == BERTEXP else (times, f"{own['memory']:.0%}")
            cells = (speed, f"{own['spread']:.0%}", beside[0], memory, beside[1])
            rows.append((f"{model}, {side}", *cells))
    return table("model, side", "tokens/s", "±", "speedup", "peak memory", "share", rows=rows)


def _parts(found: Figures) -> Table:
    own = [figures["measured"][BERTEXP] for figures in found.values()]
    machine = own[0][0]["machine_flops"] / 1e9
    product = f"forward and backward, of the product's {machine:,.0f} GFLOP/s"
    rows = [(name, *(f"{median(one['parts'][name] for one in each):.1f}" for each in own))
            for name in PARTS]  # fmt: skip
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
    import matplotlib
    from matplotlib.figure import Figure

    from bertexp.plotting import HUES, INK, STYLE, save

    names = [*next(iter(found.values()))["sides"]]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.5 + 0.4 * len(names)), layout="constrained")
        panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        for panel, (model, figures) in zip(panels, found.items(), strict=True):
            speeds = [own["tokens_per_second"] for own in figures["sides"].values()]
            bars = panel.barh(names, speeds, 0.7, color=HUES[: len(names)])
            panel.bar_label(bars, [f"{each:,.0f}" for each in speeds], padding=3, color=INK)
            panel.set_xlim(0, 1.4 * max(speeds))
            panel.set_title(model)
            panel.set_xticks([])
            panel.spines["bottom"].set_visible(False)
        panels[0].invert_yaxis()
        figure.supxlabel("tokens a second")
        save(figure, path)
