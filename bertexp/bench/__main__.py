"""``python -m bertexp.bench``: measures speed on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from bertexp.bench.config import WHAT, BenchConfig
from bertexp.cli import enter
from bertexp.config import parse
from bertexp.terminal import command
from bertexp.unread import COMMAND_LINE, refuse_unread, written_keys


@command()
def main() -> None:
    """Measure what the command line names, then exit."""
    enter("bench", BenchConfig, _bench)


def _bench(composed: DictConfig) -> None:
    config = parse(composed, BenchConfig)
    overrides = list(HydraConfig.get().overrides.task)
    named = written_keys(overrides)
    refuse_unread(dict.fromkeys(named, COMMAND_LINE), composed, BenchConfig)
    from bertexp.bench.costs import measure_masking, measure_preparation
    from bertexp.bench.objectives import measure_objectives
    from bertexp.bench.race import measure_training
    from bertexp.experiment.summary import versions
    from bertexp.training.setup import choose_device

    on_gpu = choose_device(config.hardware.device).type == "cuda"
    config = replace(config, bench=config.bench.resolved(on_gpu))
    folder = Path(HydraConfig.get().runtime.output_dir)
    measure: dict[str, Callable[[], dict[str, Any]]] = {
        "training": lambda: measure_training(config, overrides, folder, on_gpu),
        "objectives": lambda: measure_objectives(config, overrides),
        "masking": lambda: measure_masking(config),
        "preparation": lambda: measure_preparation(config),
    }
    found: dict[str, Any] = {"versions": versions()}
    found |= {what: measure[what]() for what in WHAT if what in config.bench.what}
    path = folder / "bench.json"
    path.write_text(json.dumps(found, indent=2) + "\n")
    print(path)


if __name__ == "__main__":
    main()
