"""``python -m bertexp.evaluate``: evaluates a saved run again, as it was or on something else."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from bertexp.cli import enter
from bertexp.config import Config, parse
from bertexp.runs.resuming import as_recorded, quoted
from bertexp.validation import UserError, require


@dataclass(kw_only=True)
class EvaluateConfig(Config):
    """An experiment, and which run of it to evaluate."""

    run: str | None
    save: str | None

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = "a file's name of letters, digits, points, hyphens and underscores"
        is_name = self.save is None or bool(re.fullmatch(r"[\w-][\w.-]*", self.save))
        require(is_name, "save", self.save, allowed)


def main() -> None:
    """Evaluate the run that the command line names, then exit."""
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        sys.argv[1] = f"run={quoted(sys.argv[1])}"
    enter("evaluate", EvaluateConfig, _evaluate)


def _evaluate(composed: DictConfig) -> float:
    from bertexp.runs.saved import find_saved

    if composed.run is None:
        raise UserError("RUN is missing: python -m bertexp.evaluate RUN [overrides].")
    saved = find_saved(composed.run)
    if saved.run is None:
        raise UserError(f"run={composed.run}: no run's folder, it has no .hydra/config.yaml.")
    named = HydraConfig.get().overrides.task
    config = parse(as_recorded(composed, saved.run, named), EvaluateConfig)
    from bertexp.reevaluation import reevaluate

    return reevaluate(config, saved, config.save)


if __name__ == "__main__":
    main()
