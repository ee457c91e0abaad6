"""What objectives cost: the steps of a run for each, in fresh processes, in turn."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from bertexp.bench.clock import Clock
from bertexp.bench.config import BenchConfig
from bertexp.bench.work import compose
from bertexp.console import show, table
from bertexp.experiment.pretraining import Pretraining
from bertexp.objectives.learner import Learner
from bertexp.training.budget import Budget
from bertexp.training.loading import load_steps
from bertexp.training.loop import Watch, train
from bertexp.training.machine import peak_memory
from bertexp.training.prepare import prepare_training
from bertexp.training.setup import build_accelerator
from bertexp.validation import UserError


@dataclass(frozen=True)
class Cost:
    """The measurements of one process, per step unless noted.

    Attributes:
        seconds: of the loop.
        tokens: without padding.
        predictions: of all objectives.
        flops: floating-point operations, see ``Learner.flops``.
        peak_bytes: the peak memory of the process; of torch on a GPU.
    """

    seconds: float
    tokens: float
    predictions: float
    flops: float
    peak_bytes: int


def measure_objectives(config: BenchConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """Measure a run's steps with each of ``bench.objectives``, and print the table.

    Returns:
        By objective, medians over its processes, and ``time`` and ``work``: the seconds and the
        floating-point operations of a step relative to the first one's.

    Raises:
        UserError: a process failed.
    """
    bench = config.bench
    common = [each for each in overrides if not each.lstrip("+").startswith("bench.")]
    common += [f"bench.warmup={bench.warmup}", f"bench.steps={bench.steps}"]
    measured: dict[str, list[Cost]] = {name: [] for name in bench.objectives}
    for turn in range(bench.repeats):
        for name, each in measured.items():
            print(f"{name} · {turn + 1} of {bench.repeats}", flush=True)
            each.append(_run([*common, *shlex.split(name)]))
    found: dict[str, Any] = {}
    for name, each in measured.items():
        own = {key: median(getattr(one, key) for one in each) for key in asdict(each[0])}
        first = next(iter(found.values()), own)
        own["time"], own["work"] = own["seconds"] / first["seconds"], own["flops"] / first["flops"]
        found[name] = own
    rows = [
        (
            name,
            f"{own['tokens'] / own['seconds']:,.0f}",
            f"{own['predictions'] / own['seconds']:,.0f}",
            f"{own['time']:.2f}x",
            f"{own['work']:.2f}x",
            f"{own['peak_bytes'] / 1e9:.2f} GB",
        )
        for name, own in found.items()
    ]
    columns = ("objective", "tokens/s", "predictions/s", "time a step", "its FLOPs", "peak memory")
    show(table(*columns, rows=rows))
    return found


def _run(overrides: list[str]) -> Cost:
    command = [sys.executable, "-m", "bertexp.bench.objectives", json.dumps(overrides)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError((done.stderr.strip().splitlines() or ["bench: a process failed"])[-1])
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure a run with the overrides in the argument, a list in JSON, and print its ``Cost``."""
    try:
        found = _measure(compose(json.loads(sys.argv[1])))
    except UserError as error:
        sys.exit(str(error))
    print(json.dumps(asdict(found)))


def _measure(config: BenchConfig) -> Cost:
    accelerator = build_accelerator(config.hardware, [])
    prepared = Pretraining(config).prepare(accelerator.device)
    learner = Learner(prepared.model, prepared.heads).to(accelerator.device)
    (training,) = prepare_training(prepared.phases, learner, accelerator)
    warmup, steps = config.bench.warmup, config.bench.steps
    training.budget = Budget(warmup + steps, None, None)
    clock = Clock(warmup, steps)

    class Timing(Watch):
        def step(self) -> None:
            clock.tick(training.state.tokens)

    plan, workers = training.batches, config.hardware.num_workers
    train(training, load_steps(plan, 0, workers, accelerator.device), Timing())
    peak = peak_memory()
    batches = [batch for step in range(warmup, warmup + steps) for batch in plan[step]]
    return Cost(
        seconds=clock.seconds / steps,
        tokens=sum(batch.tokens for batch in batches) / steps,
        predictions=sum(sum(map(len, batch.targets.values())) for batch in batches) / steps,
        flops=sum(learner.flops(batch) for batch in batches) / steps,
        peak_bytes=peak,
    )


if __name__ == "__main__":
    main()
