"""What objectives cost: the steps of a run for each, in fresh processes, in turn."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from statistics import median
from typing import Any

from bertexp.bench.config import BenchConfig
from bertexp.bench.stopwatch import Stopwatch
from bertexp.bench.work import compose, run_process, without_bench
from bertexp.console import show, table
from bertexp.experiment.pretraining import Pretraining
from bertexp.objectives.learner import Learner
from bertexp.training.budget import Budget
from bertexp.training.loading import load_steps
from bertexp.training.loop import Callbacks, train
from bertexp.training.machine import peak_memory
from bertexp.training.prepare import prepare_training
from bertexp.training.setup import build_accelerator
from bertexp.validation import UserError


def measure_objectives(config: BenchConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """Measure a run's steps with each of ``bench.objectives``, and print the table.

    Returns:
        By objective, medians over its processes, and ``time`` and ``work``: the seconds and the
        floating-point operations of a step relative to the first one's.
    """
    bench = config.bench
    own_keys = (f"bench.warmup={bench.warmup}", f"bench.steps={bench.steps}")
    common = [*without_bench(overrides), *own_keys]
    for name in bench.objectives:
        # A mistake is found before anything is measured.
        compose([*common, *shlex.split(name)])
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in bench.objectives}
    for turn in range(bench.repeats):
        for name, each in measured.items():
            print(f"{name} · {turn + 1} of {bench.repeats}", flush=True)
            chosen = json.dumps([*common, *shlex.split(name)])
            output = run_process(["-m", "bertexp.bench.objectives", chosen])
            each.append(json.loads(output.splitlines()[-1]))
    found: dict[str, Any] = {}
    for name, each in measured.items():
        own = {key: median(one[key] for one in each) for key in each[0]}
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


def main() -> None:
    """Measure a run with the overrides in the argument, a list in JSON, and print what it costs."""
    try:
        found = _measure(compose(json.loads(sys.argv[1])))
    except UserError as error:
        sys.exit(str(error))
    print(json.dumps(found))


def _measure(config: BenchConfig) -> dict[str, float]:
    """Return a step's seconds, tokens, predictions and operations, and the process's peak memory.

    Tokens are without padding, predictions of all objectives, and the memory is torch's on a GPU.
    """
    accelerator = build_accelerator(config.hardware, [])
    prepared = Pretraining(config).prepare(accelerator.device)
    learner = Learner(prepared.model, prepared.heads).to(accelerator.device)
    (training,) = prepare_training(prepared.phases, learner, accelerator)
    warmup, steps = config.bench.warmup, config.bench.steps
    training.budget = Budget(warmup + steps, None, None)
    stopwatch = Stopwatch(warmup, steps)

    class Timing(Callbacks):
        def step(self) -> None:
            stopwatch.tick(training.state.tokens)

    plan, workers = training.batches, config.hardware.num_workers
    train(training, load_steps(plan, 0, workers, accelerator.device), Timing())
    peak = peak_memory()
    batches = [batch for step in range(warmup, warmup + steps) for batch in plan[step]]
    return {
        "seconds": stopwatch.seconds / steps,
        "tokens": sum(batch.tokens for batch in batches) / steps,
        "predictions": sum(sum(map(len, batch.targets.values())) for batch in batches) / steps,
        "flops": sum(learner.flops(batch) for batch in batches) / steps,
        "peak_bytes": peak,
    }


if __name__ == "__main__":
    main()
