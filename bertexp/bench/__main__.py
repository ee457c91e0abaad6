"""``python -m bertexp.bench``: measures speed on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from bertexp.bench.config import BenchConfig
from bertexp.cli import enter
from bertexp.config import parse
from bertexp.terminal import command
from bertexp.unread import COMMAND_LINE, refuse_unread, written_keys


@command()
def main() -> None:
    """Measure what the command line asks for, then exit."""
    enter("bench", BenchConfig, _bench)


def _bench(composed: DictConfig) -> None:
    config = parse(composed, BenchConfig)
    named = written_keys(HydraConfig.get().overrides.task)
    refuse_unread(dict.fromkeys(named, COMMAND_LINE), composed, BenchConfig)
    folder = Path(HydraConfig.get().runtime.output_dir)
    from bertexp.experiment.summary import versions

    found: dict[str, Any] = {"versions": versions()}
    if "training" in config.bench.what:
        found["training"] = _training(config, folder)
    if "masking" in config.bench.what:
        found["masking"] = _masking(config)
    if "preparation" in config.bench.what:
        found["preparation"] = _preparation(config)
    path = folder / "bench.json"
    path.write_text(json.dumps(found, indent=2) + "\n")
    print(path)


def _training(config: BenchConfig, folder: Path) -> dict[str, Any]:
    from bertexp.bench import show
    from bertexp.bench.race import run_races
    from bertexp.experiment import report

    bench = config.bench.shortened()
    overrides = HydraConfig.get().overrides.task
    races = run_races(bench, overrides, config.task.name, lambda line: print(line, flush=True))
    report.show(show.race_table(races))
    report.show(show.parts_table(races))
    if bench.loss_steps:
        report.show(show.loss_table(races))
    show.write_plot(races, folder / "bench.png")
    print(folder / "bench.png")
    return {race.model: race.figures() for race in races}


def _masking(config: BenchConfig) -> dict[str, Any]:
    from bertexp.bench.masking import measure_masking
    from bertexp.bench.show import masking_table
    from bertexp.experiment import report

    cost = measure_masking(config)
    report.show(masking_table(cost))
    print(f"A step of {config.model.name} (forward and backward) takes {cost.step_ms:.1f} ms.")
    return asdict(cost)


def _preparation(config: BenchConfig) -> dict[str, Any]:
    from bertexp.bench.preparation import measure_preparation
    from bertexp.bench.show import preparation_table
    from bertexp.experiment import report
    from bertexp.experiment.prepare import preparation_processes

    bench = config.bench.shortened()
    counts = sorted({1, preparation_processes(config)})
    cost = measure_preparation(config, bench.megabytes, counts, bench.repeats)
    report.show(preparation_table(cost))
    return asdict(cost)


if __name__ == "__main__":
    main()
