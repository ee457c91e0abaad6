"""bertexp and Hugging Face's Trainer, or another commit: fresh processes that take turns."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from bertexp.bench.clock import Span
from bertexp.bench.config import DEFAULT_MODEL, BenchConfig, MeasureConfig
from bertexp.bench.results import Figures, report
from bertexp.bench.work import (
    BERTEXP,
    LONGEST,
    OTHER,
    PADDED,
    TRAINER,
    TUNED,
    Measured,
    compose_work,
    prepare_work,
    run_process,
    without_bench,
    write_model,
)
from bertexp.files import expanded

# The least seconds of a window on a GPU, where steps are short and loaders work ahead.
SECONDS = 0.5


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


def measure_training(
    config: BenchConfig, overrides: Sequence[str], folder: Path, on_gpu: bool
) -> Figures:
    """Measure every setting, and print and draw the results; returns the figures by setting."""
    with TemporaryDirectory(prefix="bertexp-bench-") as temporary:
        races = _races(config, _settings(config.bench, overrides, Path(temporary)), on_gpu)
    found = {race.setting: race.figures() for race in races}
    report(found, folder)
    return found


@dataclass(frozen=True)
class _Setting:
    """A setting as its processes get it, and the folder of its initial model."""

    label: str
    model: str
    overrides: list[str]
    folder: Path


def _settings(bench: MeasureConfig, overrides: Sequence[str], folder: Path) -> list[_Setting]:
    """Return the settings; writes the initial models."""
    assert bench.settings is not None
    # The keys of the benchmark that a side reads.
    own_keys = (f"bench.warmup={bench.warmup}", f"bench.vocab_size={bench.vocab_size}")
    common = [*without_bench(overrides), *own_keys]
    split = [shlex.split(setting) for setting in bench.settings]
    labels = [" ".join(each.partition("=")[2] for each in own) for own in split]
    if len({*labels}) < len(labels):
        labels = bench.settings
    found = []
    for number, (label, own) in enumerate(zip(labels, split, strict=True)):
        chosen = [*common, *own]
        models = [each.removeprefix("model=") for each in chosen if each.startswith("model=")]
        setting = _Setting(label, [DEFAULT_MODEL, *models][-1], chosen, folder / str(number))
        config = compose_work(setting.overrides, setting.model)
        write_model(config, prepare_work(config), setting.folder)
        found.append(setting)
    return found


def _races(config: BenchConfig, settings: list[_Setting], on_gpu: bool) -> list[Race]:
    """Start the processes: on a CPU one for each setting, side and turn, on a GPU one a side.

    Loading the libraries takes longer than a measurement on a GPU, whose memory is counted anew
    for each setting.
    """
    bench, task = config.bench, config.task.name
    others = (PADDED, LONGEST) if task == "nsp" else (TRAINER, TUNED)
    sides = (BERTEXP, OTHER) if bench.against else (BERTEXP, *others)
    races = {one.label: Race(one.label, {side: [] for side in sides}, {}) for one in settings}
    turns = 1 if on_gpu else bench.repeats
    for some in [settings] if on_gpu else [[one] for one in settings]:
        name = some[0].label if len(some) == 1 else f"{len(some)} settings"
        for turn in range(turns):
            for side in sides:
                print(f"{name} · {side} · {turn + 1} of {turns}", flush=True)
                for one, found in zip(some, _run(bench, side, some, on_gpu), strict=True):
                    races[one.label].measured[side].append(found)
        if bench.loss_steps:
            for side in (BERTEXP, LONGEST if task == "nsp" else TRAINER):
                print(f"{name} · {side} · {bench.loss_steps} steps", flush=True)
                each = _run(bench, side, some, on_gpu, bench.loss_steps)
                for one, found in zip(some, each, strict=True):
                    races[one.label].to_loss[side] = found
    return [*races.values()]


def _run(
    bench: MeasureConfig, side: str, settings: list[_Setting], on_gpu: bool, loss_steps: int = 0
) -> list[Measured]:
    """Measure one side in one process; returns what it found in each setting."""
    orders = [_order(bench, side, one, on_gpu, loss_steps) for one in settings]
    start, environment = ["-m", "bertexp.bench.side"], dict(os.environ)
    # Trainer would use all GPUs.
    environment["CUDA_VISIBLE_DEVICES"] = environment.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    if side == OTHER:
        # Without -P the current folder, perhaps another checkout, would take precedence.
        start.insert(0, "-P")
        environment["PYTHONPATH"] = str(expanded(str(bench.against)).absolute())
    run_process([*start, *map(json.dumps, orders)], environment)
    results = [Path(order["result"]).read_text(encoding="utf-8") for order in orders]
    return [Measured(**json.loads(result)) for result in results]


def _order(
    bench: MeasureConfig, side: str, setting: _Setting, on_gpu: bool, loss_steps: int
) -> dict[str, Any]:
    is_timed = on_gpu and not loss_steps
    windows = (bench.repeats, SECONDS) if is_timed else ()
    return {
        "side": BERTEXP if side == OTHER else side,
        "model": setting.model,
        # Up to a loss both train at the same rates, whatever the budget.
        "overrides": [*setting.overrides, *(["scheduler=constant"] if loss_steps else [])],
        "folder": str(setting.folder),
        "result": str(setting.folder / "result.json"),
        **asdict(Span(bench.warmup + bench.steps, loss_steps, *windows)),
    }
