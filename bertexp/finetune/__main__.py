"""``python -m bertexp.finetune``: fine-tunes a saved encoder on labelled data."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from bertexp.arguments import is_path, quoted
from bertexp.cli import run_command
from bertexp.experiment.saved import runs_in
from bertexp.finetune.config import FinetuneConfig
from bertexp.terminal import command


@command()
def main() -> None:
    """Fine-tune the command line's model, then exit."""
    arguments = sys.argv[1:]
    if arguments and is_path(arguments[0]):
        arguments[0] = "run=" + ",".join(quoted(run) for run in runs_in(arguments[0]))
    if not {"-m", "--multirun"} & {*arguments} and _has_several_values(arguments):
        arguments = ["-m", *arguments]
    sys.argv[1:] = arguments
    run_command("finetune", FinetuneConfig)


def _has_several_values(arguments: Sequence[str]) -> bool:
    settings = [argument for argument in arguments if not argument.startswith("-")]
    try:
        overrides = OverridesParser.create().parse_overrides(settings)
    except HydraException:
        return False  # reported when the settings are composed
    return any(override.is_sweep_override() for override in overrides)


if __name__ == "__main__":
    main()
