"""``python -m bertexp.evaluate``: evaluates a saved run again, as it was or on something else."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from bertexp.cli import enter
from bertexp.config import Config, parse
from bertexp.runs.resuming import as_recorded, quoted
from bertexp.sweeps.launcher import folder_name
from bertexp.terminal import command
from bertexp.unread import COMMAND_LINE, refuse_unread, written_keys
from bertexp.validation import UserError, require

if TYPE_CHECKING:
    from bertexp.runs.saved import Saved

AUTO = "auto"
# What is not otherwise evaluated for it.
_ONLY_HOW = re.compile(r"[+~]*(run|save|hardware|tracker|hydra)[./=@]")


@dataclass(kw_only=True)
class EvaluateConfig(Config):
    """An experiment, and which run of it to evaluate."""

    command: ClassVar[str] = "bertexp.evaluate"
    # The model and its tokenizer are the run's, and what it was trained with does not matter.
    passes_over: ClassVar[tuple[str, ...]] = (
        *("masking", "tokenizer", "model", "optimizer", "scheduler", "trainer", "tracker"),
        *("seed", "name", "sweep", "evaluation.every"),
    )

    run: str | None
    save: str | None

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = "a file's name of letters, digits, points, hyphens and underscores"
        is_name = self.save is None or bool(re.fullmatch(r"[\w-][\w.-]*", self.save))
        require(is_name, "save", self.save, allowed)


@command()
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
    named = list(HydraConfig.get().overrides.task)
    composed = as_recorded(composed, saved.run, named)
    config = parse(composed, EvaluateConfig)
    refuse_unread(dict.fromkeys(written_keys(named), COMMAND_LINE), composed, EvaluateConfig)
    from bertexp.reevaluation import reevaluate

    changed = [one for one in named if not _ONLY_HOW.match(one)]
    save = _name(saved, changed) if config.save == AUTO else config.save
    return reevaluate(config, saved, save, changed)


def _name(saved: Saved, changed: Sequence[str]) -> str:
    """Return a name for what is evaluated: the model within its run, and what is otherwise now."""
    return folder_name(",".join([Path(saved.source).name, *sorted(changed)]))


if __name__ == "__main__":
    main()
