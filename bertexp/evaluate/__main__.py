"""``python -m bertexp.evaluate``: evaluates saved runs again, with the same or other settings."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from bertexp.arguments import is_path
from bertexp.cli import enter
from bertexp.config import Config, parse
from bertexp.evaluation.grammar import GENERATED, KEY
from bertexp.experiment.resuming import as_recorded
from bertexp.keys import key
from bertexp.sweeps.stored import folder_name
from bertexp.terminal import command
from bertexp.unread import COMMAND_LINE, refuse_unread, written_keys
from bertexp.validation import UserError, is_mistake, require

AUTO, BABYLM = "auto", "babylm"
# Overrides that do not change results.
_ONLY_HOW = re.compile(r"[+~]*(run|save|format|hardware|tracker|hydra)[./=@]")


@dataclass(kw_only=True)
class EvaluateConfig(Config):
    """An experiment, and the run to evaluate."""

    command: ClassVar[str] = "bertexp.evaluate"
    # The model and its tokenizer are the run's; settings of its training do not matter.
    ignores: ClassVar[tuple[str, ...]] = (
        *("masking", "tokenizer", "model", "optimizer", "scheduler", "trainer", "tracker"),
        *("seed", "name", "sweep", "phases", "evaluation.every"),
    )

    run: str | None
    save: str | None
    format: str | None = key(choices=(BABYLM,))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.format == BABYLM:
            self._check_babylm()
        allowed = "a file's name of letters, digits, points, hyphens and underscores"
        is_name = self.save is None or bool(re.fullmatch(r"[\w-][\w.-]*", self.save))
        require(is_name, "save", self.save, allowed)

    def _check_babylm(self) -> None:
        """Raise a ``UserError`` unless all pairs of files are scored."""
        if self.evaluation.minimal_pairs in (None, GENERATED):
            raise UserError(
                f"format={BABYLM}: needs {KEY}=FOLDER, the pipeline's data, such as "
                "evaluation_data/full_eval/blimp_filtered."
            )
        if self.evaluation.max_examples is not None:
            raise UserError(
                f"format={BABYLM}: the pipeline expects all pairs; set "
                "evaluation.max_examples=null."
            )


@command()
def main() -> None:
    """Evaluate the runs of the command line, then exit."""
    named = [*itertools.takewhile(is_path, sys.argv[1:])]
    del sys.argv[1 : 1 + len(named)]
    enter("evaluate", EvaluateConfig, lambda composed: _evaluate_all(named, composed), named)


def _evaluate_all(named: Sequence[str], composed: DictConfig) -> float | None:
    """Evaluate one model with a report, or several with a line each; print errors by name."""
    from bertexp.experiment.saved import runs_in

    names = [run for name in (*named, composed.run) if name for run in runs_in(name)]
    if not names:
        raise UserError("RUN is missing: python -m bertexp.evaluate RUN... [overrides].")
    if len(names) == 1:
        return _evaluate(composed, names[0])
    failed = 0
    for number, name in enumerate(names, start=1):
        print(f"{number}/{len(names)} · {name}", flush=True)
        try:
            _evaluate(composed, name, in_a_line=True)
        except Exception as error:
            if not is_mistake(error):
                raise
            failed += 1
            print(f"failed: {error}", flush=True)
    if failed:
        raise UserError(f"{failed} of {len(names)} runs were not evaluated.")
    return None


def _evaluate(composed: DictConfig, name: str, *, in_a_line: bool = False) -> float:
    from bertexp.experiment.saved import find_saved

    saved = find_saved(name)
    named = list(HydraConfig.get().overrides.task)
    composed = composed.copy()
    composed.run = name
    if saved.run:
        composed = as_recorded(composed, saved.run, named)
    config = parse(composed, EvaluateConfig)
    refuse_unread(dict.fromkeys(written_keys(named), COMMAND_LINE), composed, EvaluateConfig)
    from bertexp.evaluate.reevaluation import reevaluate

    changed = [one for one in named if not _ONLY_HOW.match(one)]
    save = config.save
    if save == AUTO:
        save = folder_name(",".join([Path(saved.source).name, *sorted(changed)]))
    return reevaluate(
        config, saved, save, changed, for_babylm=config.format == BABYLM, in_a_line=in_a_line
    )


if __name__ == "__main__":
    main()
