"""``python -m bertexp.bench.side``: one process of one side, started by the benchmark.

Its input and output are the same in every version, so that two commits can be compared.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bertexp.bench.work import (
    BERTEXP,
    PREPARE,
    Measured,
    compose_work,
    prepare_work,
    write_model,
)
from bertexp.validation import UserError


def main() -> None:
    """Measure what the argument, an object in JSON, describes, and write to its ``result``."""
    order = json.loads(sys.argv[1])
    try:
        found = _measure(order)
    except UserError as error:
        sys.exit(str(error))
    if found:
        Path(order["result"]).write_text(json.dumps(asdict(found)), encoding="utf-8")


def _measure(order: dict[str, Any]) -> Measured | None:
    config = compose_work(order["overrides"], order["model"])
    side, folder = order["side"], Path(order["folder"])
    if side == PREPARE:
        write_model(config, prepare_work(config), folder)
        return None
    counts = order["steps"], order["loss_steps"]
    # Each side imports only what it needs, so that no other's memory is measured.
    if side == BERTEXP:
        from bertexp.bench.ours import measure_bertexp

        return measure_bertexp(config, folder, *counts)
    from bertexp.bench.trainer import measure_trainer

    return measure_trainer(config, folder, side, *counts)


if __name__ == "__main__":
    main()
