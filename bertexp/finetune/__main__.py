"""``python -m bertexp.finetune``: fine-tunes a saved encoder on labelled data."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from bertexp.arguments import quoted
from bertexp.cli import enter, run_job
from bertexp.experiment.invocation import Invocation
from bertexp.experiment.saved import runs_in
from bertexp.finetune.config import FinetuneConfig
from bertexp.terminal import command
from bertexp.validation import UserError


@command()
def main() -> None:
    """Fine-tune the model that the command line names, then exit."""
    arguments = sys.argv[1:]
    if arguments and not arguments[0].startswith("-") and "=" not in arguments[0].split("/")[0]:
        arguments[0] = "run=" + ",".join(quoted(run) for run in runs_in(arguments[0]))
    if not {"-m", "--multirun"} & {*arguments} and _has_several_values(arguments):
        arguments = ["-m", *arguments]
    sys.argv[1:] = arguments
    enter("finetune", FinetuneConfig, lambda composed: run_job(composed, FinetuneConfig, _finetune))


def _has_several_values(arguments: Sequence[str]) -> bool:
    """Return whether a key has several values, as in ``seed=0,1,2``."""
    settings = [argument for argument in arguments if not argument.startswith("-")]
    try:
        overrides = OverridesParser.create().parse_overrides(settings)
    except HydraException:
        return False  # it is said what is wrong when the settings are composed
    return any(override.is_sweep_override() for override in overrides)


def _finetune(config: FinetuneConfig, resolved: dict[str, Any], invocation: Invocation) -> float:
    from bertexp.finetune.experiment import run_finetuning
    from bertexp.processes import group
    from bertexp.processes.launch import number_to_start

    hardware = config.hardware
    if group.was_launched() or hardware.sharded or number_to_start(hardware) > 1:
        raise UserError("finetune: runs in one process; use hardware.num_processes=1.")
    return run_finetuning(config, resolved, invocation)


if __name__ == "__main__":
    main()
