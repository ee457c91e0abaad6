"""``python -m bertexp.bench.side``: one process of one side, started by the benchmark."""

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
    """Do what the argument says, and write what was measured to the file that it names."""
    asked = json.loads(sys.argv[1])
    try:
        found = _do(asked)
    except UserError as error:
        sys.exit(str(error))
    if found:
        Path(asked["result"]).write_text(json.dumps(asdict(found)), encoding="utf-8")


def _do(asked: dict[str, Any]) -> Measured | None:
    config = compose_work(asked["overrides"], asked["model"])
    folder, steps, loss_steps = Path(asked["folder"]), asked["steps"], asked["loss_steps"]
    if asked["side"] == PREPARE:
        write_model(config, prepare_work(config), folder)
        return None
    if asked["side"] == BERTEXP:
        from bertexp.bench import ours

        return ours.measure(config, folder, steps, loss_steps)
    from bertexp.bench import trainer

    return trainer.measure(config, folder, asked["side"], steps, loss_steps)


if __name__ == "__main__":
    main()
