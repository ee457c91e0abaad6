"""bertexp and Hugging Face's Trainer, or another commit: fresh processes that take turns."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from bertexp.bench.config import DEFAULT_MODEL, BenchConfig, MeasureConfig
from bertexp.bench.results import Figures, Race, report
from bertexp.bench.stopwatch import Span
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
from bertexp.training.config import ADAMW
from bertexp.validation import UserError, require

# The least seconds of a window on a GPU, where steps are short and loaders work ahead.
WINDOW_SECONDS = 0.5
# What the tables and the plot may take of ``bench.seconds``.
REPORT_SECONDS = 10


def measure_training(
    config: BenchConfig, overrides: Sequence[str], folder: Path, on_gpu: bool
) -> Figures:
    """Measure every setting, and print and draw the results; returns the figures by setting.

    Raises:
        UserError: a side failed; on a GPU after the results of the others are printed.
    """
    failures: list[UserError] = []
    with TemporaryDirectory(prefix="bertexp-bench-") as temporary:
        settings = _settings(config.bench, overrides, Path(temporary))
        races = _races(config, settings, on_gpu, failures)
    found = {race.setting: race.figures() for race in races if race.measured[BERTEXP]}
    report(found, folder)
    if failures:
        raise failures[0]
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
        if bench.against is None:
            allowed = "adamw, which Trainer has too; or set bench.against"
            require(config.optimizer.name == ADAMW, "optimizer", config.optimizer.name, allowed)
        write_model(config, prepare_work(config), setting.folder)
        found.append(setting)
    return found


def _races(
    config: BenchConfig, settings: list[_Setting], on_gpu: bool, failures: list[UserError]
) -> list[Race]:
    """Start the processes: on a CPU one for each setting, side and turn."""
    bench, task = config.bench, config.task.name
    sides = [BERTEXP, *((PADDED, LONGEST) if task == "nsp" else (TRAINER, TUNED))]
    if bench.against:
        sides = [BERTEXP, OTHER]
    elif on_gpu and task != "nsp":
        sides.remove(TRAINER)
    races = {one.label: Race(one.label, {side: [] for side in sides}, {}) for one in settings}
    if on_gpu:
        _race_on_gpu(bench, settings, races, sides, failures)
        settings = [one for one in settings if races[one.label].measured[BERTEXP]]
    else:
        _race_on_cpu(bench, settings, races, sides)
    if bench.loss_steps:
        for one in settings:
            for side in (BERTEXP, LONGEST if task == "nsp" else TRAINER):
                print(f"{one.label} · {side} · {bench.loss_steps} steps", flush=True)
                found = _run(bench, side, [one], bench.loss_steps)
                races[one.label].to_loss[side] = found[one.label]
    return [*races.values()]


def _race_on_cpu(
    bench: MeasureConfig, settings: list[_Setting], races: dict[str, Race], sides: list[str]
) -> None:
    for one in settings:
        for turn in range(bench.repeats):
            for side in sides:
                print(f"{one.label} · {side} · {turn + 1} of {bench.repeats}", flush=True)
                races[one.label].measured[side] += _run(bench, side, [one]).values()


def _race_on_gpu(
    bench: MeasureConfig,
    settings: list[_Setting],
    races: dict[str, Race],
    sides: list[str],
    failures: list[UserError],
) -> None:
    """Start one process a side, which is ended when its share of ``bench.seconds`` is over.

    Loading the libraries takes longer than a measurement on a GPU, whose memory is counted anew
    for each setting. The others measure only what bertexp has measured. What a side measured before
    it failed counts.
    """
    assert bench.seconds is not None
    end = psutil.Process().create_time() + bench.seconds - REPORT_SECONDS
    for number, side in enumerate(sides, start=1):
        print(f"{len(settings)} settings · {side}", flush=True)
        # bertexp compiles all its settings, Trainer only one.
        share = 0.6 if number == 1 and not bench.against else 1 / (len(sides) - number + 1)
        seconds = max(1.0, share * (end - time.time()))
        orders = _orders(bench, side, settings, windows=(bench.repeats, WINDOW_SECONDS))
        try:
            _start(bench, side, orders, seconds)
        except UserError as error:
            failures.append(error)
            print(f"{side}: {error}", flush=True)
        for label, measured in _results(settings, orders).items():
            races[label].measured[side].append(measured)
        settings = [one for one in settings if races[one.label].measured[BERTEXP]]
        if not settings:
            too_short = f"bench.seconds={bench.seconds:g}: too short to measure a setting."
            raise failures[0] if failures else UserError(too_short)
    missing = [f"{one.setting}, {side}" for one in races.values()
               for side, each in one.measured.items() if not each]  # fmt: skip
    if missing:
        print(f"not measured (bench.seconds={bench.seconds:g}): {'; '.join(missing)}")


def _run(
    bench: MeasureConfig, side: str, settings: list[_Setting], loss_steps: int = 0
) -> dict[str, Measured]:
    """Measure one side in one process; returns what it found, by setting."""
    orders = _orders(bench, side, settings, loss_steps)
    _start(bench, side, orders)
    return _results(settings, orders)


def _orders(
    bench: MeasureConfig,
    side: str,
    settings: list[_Setting],
    loss_steps: int = 0,
    windows: tuple[int, float] = (1, 0.0),
) -> list[dict[str, Any]]:
    """Return what a process gets; ``windows``: their number and least seconds."""
    span = asdict(Span(bench.warmup + bench.steps, loss_steps, *windows))
    return [_order(side, one, span) for one in settings]


def _start(
    bench: MeasureConfig, side: str, orders: list[dict[str, Any]], seconds: float | None = None
) -> None:
    """Run a side's process, which is ended after so many seconds."""
    start, environment = ["-m", "bertexp.bench.side"], dict(os.environ)
    # Trainer would use all GPUs.
    environment["CUDA_VISIBLE_DEVICES"] = environment.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    if side == OTHER:
        # Without -P the current folder, perhaps another checkout, would take precedence.
        start.insert(0, "-P")
        environment["PYTHONPATH"] = str(expanded(str(bench.against)).absolute())
    run_process([*start, *map(json.dumps, orders)], environment, seconds)


def _results(settings: list[_Setting], orders: list[dict[str, Any]]) -> dict[str, Measured]:
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
