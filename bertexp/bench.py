"""``python -m bertexp.bench``: measures speed on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from bertexp.benchmark.config import BenchConfig
from bertexp.cli import enter
from bertexp.config import parse

if TYPE_CHECKING:
    from rich.table import Table

    from bertexp.benchmark.masking import MaskingCost


def main() -> None:
    """Measure what the command line asks for, then exit."""
    enter("bench", BenchConfig, _bench)


def _bench(composed: DictConfig) -> None:
    config = parse(composed, BenchConfig)
    from bertexp import report
    from bertexp.benchmark.masking import measure_masking

    cost = measure_masking(config)
    path = Path(HydraConfig.get().runtime.output_dir) / "bench.json"
    path.write_text(json.dumps(asdict(cost), indent=2) + "\n")
    report.show(_table(cost))
    print(f"A step of {config.model.name} (forward and backward) takes {cost.step_ms:.1f} ms.")
    print(path)


def _table(cost: MaskingCost) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (("masking", "left"), ("mask", "right"), ("of a step", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("whole batch", justify="right")
    table.add_column("sequences/s", justify="right")
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


if __name__ == "__main__":
    main()
