"""bertexp and Hugging Face's Trainer, or another commit: fresh processes that take turns."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import psutil

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
from bertexp.validation import UserError

# The least seconds of a window on a GPU, where steps are short and loaders work ahead, and of the
# tables and the plot.
SECONDS, REPORT_SECONDS = 0.5, 10


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


def measure_training(
    config: BenchConfig, overrides: Sequence[str], folder: Path, on_gpu: bool
) -> Figures:
    """Measure every setting, and print and draw the results; returns the figures by setting."""
    with TemporaryDirectory(prefix="bertexp-bench-") as temporary:
        races = _races(config, _settings(config.bench, overrides, Path(temporary)), on_gpu)
    found = {race.setting: race.figures() for race in races if race.measured[BERTEXP]}
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
    """Start the processes: on a CPU one for each setting, side and turn."""
    bench, task = config.bench, config.task.name
    sides = [BERTEXP, *((PADDED, LONGEST) if task == "nsp" else (TRAINER, TUNED))]
    if bench.against:
        sides = [BERTEXP, OTHER]
    elif on_gpu and task != "nsp":
        sides.remove(TRAINER)
    races = {one.label: Race(one.label, {side: [] for side in sides}, {}) for one in settings}
    if on_gpu:
        _race_on_gpu(bench, settings, races, sides)
    for one in [] if on_gpu else settings:
        for turn in range(bench.repeats):
            for side in sides:
                print(f"{one.label} · {side} · {turn + 1} of {bench.repeats}", flush=True)
                races[one.label].measured[side] += _run(bench, side, [one]).values()
    for one in settings if bench.loss_steps else []:
        for side in (BERTEXP, LONGEST if task == "nsp" else TRAINER):
            print(f"{one.label} · {side} · {bench.loss_steps} steps", flush=True)
            found = _run(bench, side, [one], bench.loss_steps)
            races[one.label].to_loss[side] = found[one.label]
    return [*races.values()]


def _race_on_gpu(
    bench: MeasureConfig, settings: list[_Setting], races: dict[str, Race], sides: list[str]
) -> None:
    """Start one process a side, which is ended when its share of ``bench.seconds`` is over.

    Loading the libraries takes longer than a measurement on a GPU, whose memory is counted anew
    for each setting. The others measure only what bertexp has measured.
    """
    assert bench.seconds is not None
    end = psutil.Process().create_time() + bench.seconds - REPORT_SECONDS
    for number, side in enumerate(sides, start=1):
        print(f"{len(settings)} settings · {side}", flush=True)
        # bertexp compiles all its settings, Trainer only one.
        share = 0.6 if number == 1 and not bench.against else 1 / (len(sides) - number + 1)
        seconds = max(1.0, share * (end - time.time()))
        found = _run(bench, side, settings, windows=(bench.repeats, SECONDS), seconds=seconds)
        for label, measured in found.items():
            races[label].measured[side].append(measured)
        if number == 1 and not found:
            raise UserError(f"bench.seconds={bench.seconds:g}: too short to measure a setting.")
        settings = [one for one in settings if races[one.label].measured[BERTEXP]]
    missing = [f"{one.setting}, {side}" for one in races.values()
               for side, each in one.measured.items() if not each]  # fmt: skip
    if missing:
        print(f"bench.seconds={bench.seconds:g} leaves out: {'; '.join(missing)}")


def _run(
    bench: MeasureConfig,
    side: str,
    settings: list[_Setting],
    loss_steps: int = 0,
    windows: tuple[int, float] = (1, 0.0),
    seconds: float | None = None,
) -> dict[str, Measured]:
    """Measure one side in one process; returns what it found, by setting.

    Args:
        windows: their number and the least seconds of each, see ``Clock``.
        seconds: after which the process is ended; what it has measured counts, even if it fails.
    """
    span = asdict(Span(bench.warmup + bench.steps, loss_steps, *windows))
    orders = [_order(side, one, span) for one in settings]
    start, environment = ["-m", "bertexp.bench.side"], dict(os.environ)
    # Trainer would use all GPUs.
    environment["CUDA_VISIBLE_DEVICES"] = environment.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    if side == OTHER:
        # Without -P the current folder, perhaps another checkout, would take precedence.
        start.insert(0, "-P")
        environment["PYTHONPATH"] = str(expanded(str(bench.against)).absolute())
    try:
        run_process([*start, *map(json.dumps, orders)], environment, seconds)
    except UserError as error:
        if seconds is None:
            raise
        print(f"{side}: {error}", flush=True)
    found = {}
    for one, order in zip(settings, orders, strict=True):
        if (path := Path(order["result"])).exists():
            found[one.label] = Measured(**json.loads(path.read_text(encoding="utf-8")))
            path.unlink()
    return found


def _order(side: str, setting: _Setting, span: dict[str, Any]) -> dict[str, Any]:
    return {
        "side": BERTEXP if side == OTHER else side,
        "model": setting.model,
        # Up to a loss both train at the same rates, whatever the budget.
        "overrides": [*setting.overrides, *(["scheduler=constant"] if span["loss_steps"] else [])],
        "folder": str(setting.folder),
        "result": str(setting.folder / "result.json"),
        **span,
    }
