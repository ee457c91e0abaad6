"""``python -m bertexp.bench.side``: one process of one side, started by the benchmark.

Its input and output are understood by every version, so that two commits can be compared.
"""

from __future__ import annotations

import gc
import json
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from bertexp.bench.stopwatch import Span
from bertexp.bench.work import BERTEXP, Measured, compose_work
from bertexp.files import write_text
from bertexp.training.machine import forget_peak
from bertexp.validation import UserError


def main() -> None:
    """Measure what each argument, an object in JSON, describes, and write to its ``result``."""
    for argument in sys.argv[1:]:
        order = json.loads(argument)
        try:
            found = _measure(order)
        except UserError as error:
            sys.exit(str(error))
        write_text(Path(order["result"]), json.dumps(asdict(found)))
        _forget()


def _measure(order: dict[str, Any]) -> Measured:
    config = compose_work(order["overrides"], order["model"])
    side, folder = order["side"], Path(order["folder"])
    span = Span(**{each.name: order[each.name] for each in fields(Span)})
    # Each side imports only what it needs, so that no other's memory is measured.
    if side == BERTEXP:
        from bertexp.bench.ours import measure_bertexp

        return measure_bertexp(config, folder, span)
    from bertexp.bench.trainer import measure_trainer

    return measure_trainer(config, folder, side, span)


def _forget() -> None:
    """Leave nothing of a model to the next: no memory, and none of its compiled code."""
    torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    forget_peak()


if __name__ == "__main__":
    main()
