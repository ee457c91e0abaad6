"""``trainer.resume``: whether a run starts or resumes, and whether that is allowed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bertexp.arguments import quoted
from bertexp.config import Config, RunConfig, changes_outcome, keys, parse
from bertexp.console import short_path, value_text
from bertexp.experiment.folder import recorded
from bertexp.experiment.phases import parts, without_brought
from bertexp.experiment.summary import read_summary
from bertexp.files import expanded
from bertexp.keys import flattened
from bertexp.training.budget import Budget
from bertexp.training.checkpoints import Checkpoint, find_checkpoints
from bertexp.validation import UserError

AUTO = "auto"
BUDGET = {"trainer.epochs", "trainer.max_steps", "trainer.max_tokens", "trainer.max_time"}
# At most so many changed settings are named.
NAMED = 4
_RESUME = re.compile(r"\+{0,2}trainer\.resume=(['\"]?)(.*)\1")


@dataclass(frozen=True)
class Resume:
    """Where a run starts or resumes.

    Attributes:
        composed: its configuration, without ``trainer.resume``.
        checkpoint: where it resumes, None if it starts.
        forced: whether it resumes even with other data.
        tracker_id: its id in trackers, None for a new run.
        result: the final ``eval/loss`` if the run is finished already, else None.
    """

    composed: DictConfig
    checkpoint: Checkpoint | None = None
    forced: bool = False
    tracker_id: str | None = None
    result: float | None = None

    def check_data(self, fingerprints: Mapping[str, Any]) -> None:
        """Raise a ``UserError`` if the checkpoint is of other data than these fingerprints."""
        assert self.checkpoint is not None
        found, known = map(
            _without_evaluators, (fingerprints, self.checkpoint.progress["fingerprints"])
        )
        changed = [name for name in found if found[name] != known[name]]
        if changed and not self.forced:
            raise UserError(
                f"{short_path(self.checkpoint.path)}: the run began with other data "
                f"({', '.join(changed)}); trainer.resume_force=true resumes it anyway."
            )


def _without_evaluators(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return fingerprints without the texts measured at the end only: a longer run has more."""
    bank = {name: digits for name, digits in found["bank"].items() if not name.startswith("eval/")}
    return {**found, "bank": bank}


def resume_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with ``hydra.run.dir`` set to the folder of a resumed run.

    The folder may be written as a shell completes it: Hydra's special characters are quoted.

    Raises:
        UserError: the folder has no run, or the command is a sweep.
    """
    found = list(arguments)
    for index, argument in enumerate(arguments):
        match = _RESUME.fullmatch(argument)
        if not match or match[2] in ("", AUTO, "null"):
            continue
        if {"-m", "--multirun"} & set(arguments):
            raise UserError(f"{argument}: resumes one run; in a sweep use trainer.resume={AUTO}.")
        folder = expanded(match[2])
        if recorded(folder, "config") is None:
            raise UserError(f"{argument}: no run's folder, it has no .hydra/config.yaml.")
        found[index] = f"trainer.resume={quoted(str(folder))}"
        found.append(f"hydra.run.dir={quoted(str(folder))}")
    return found


def begin(
    composed: DictConfig, folder: Path, overrides: Sequence[str], schema: type[RunConfig] = Config
) -> Resume:
    """Decide where the run in ``folder`` starts.

    Args:
        composed: the configuration of the command line.
        overrides: its overrides.

    Raises:
        UserError: it cannot resume, not with these settings, or not start here.
    """
    resume = OmegaConf.select(composed, "trainer.resume")
    whole = find_checkpoints(folder)
    if resume is None:
        _require_new(composed, folder, whole)
        return Resume(_settled(composed))
    if resume != AUTO and Path(str(resume)).absolute() != folder.absolute():
        raise UserError(f"trainer.resume={resume}: the run's folder is {folder}; name only one.")
    stored, summary = recorded(folder, "config"), read_summary(folder)
    if stored is None:
        return Resume(_settled(composed))
    before = _completed(stored, composed)
    after = composed if resume == AUTO else _with_overrides(before, composed, overrides)
    longer = _check(parse(before, schema), parse(after, schema), whole[-1]) if whole else False
    done = summary.get("status") == "finished" and not longer
    return Resume(
        composed=_settled(after),
        checkpoint=whole[-1] if whole else None,
        forced=bool(after.trainer.resume_force),
        tracker_id=summary.get("tracker_id"),
        result=summary["metrics"]["eval/loss"] if done else None,
    )


def _require_new(composed: DictConfig, folder: Path, whole: Sequence[Checkpoint]) -> None:
    if OmegaConf.select(composed, "trainer.resume_force"):
        raise UserError("trainer.resume_force=true: no run is resumed; add trainer.resume=.")
    if whole:
        raise UserError(
            f"{folder}: has a run already, up to step {whole[-1].step}; trainer.resume={AUTO} "
            "resumes it, or choose another folder with hydra.run.dir."
        )


def as_recorded(composed: DictConfig, folder: Path, overrides: Sequence[str]) -> DictConfig:
    """Return the recorded configuration of the run in ``folder``, changed by the command line.

    Of a run with phases it is that of the last one. ``hardware`` and ``tracker`` are those of the
    command line.
    """
    stored = recorded(folder, "config")
    assert stored is not None, folder
    then = stored.copy()
    OmegaConf.set_struct(then, False)
    # The last two are of runs that fine-tune.
    for part in ("hardware", "tracker", "finetune", "run"):
        then.pop(part, None)
    changed = [one for one in overrides if _part(one) in then or _part(one) not in composed]
    # A model is what its last phase has made of it.
    return _with_overrides(parts(_completed(then, composed))[-1], composed, changed)


def _part(override: str) -> str:
    return re.split(r"[.@/=]", override.lstrip("+~"))[0]


def _completed(stored: DictConfig, composed: DictConfig) -> DictConfig:
    """Return the stored configuration; keys that are newer than the run have their defaults."""
    completed = composed.copy()
    OmegaConf.set_struct(completed, False)
    completed.merge_with(stored)
    return completed


def _with_overrides(
    stored: DictConfig, composed: DictConfig, overrides: Sequence[str]
) -> DictConfig:
    changed = stored.copy()
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group.replace("/", ".")
        try:
            value = OmegaConf.select(composed, key, throw_on_missing=True)
            OmegaConf.update(changed, key, value, merge=False, force_add=True)
        except OmegaConfBaseException as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{override.input_line}: cannot be applied ({reason}).") from error
    return changed


def _check(before: RunConfig, after: RunConfig, checkpoint: Checkpoint) -> bool:
    """Refuse changes that alter results; returns whether the budget is longer in any unit."""
    whole = {*keys(type(after))}
    old, new = flattened(asdict(before), whole), flattened(asdict(after), whole)
    changed = [key for key in new if new[key] != old.get(key) and changes_outcome(key)]
    per_epoch = checkpoint.progress["steps_per_epoch"]
    budgets = [Budget.of(config.trainer, per_epoch) for config in (before, after)]
    # A longer budget moves the borders between phases, which may be in the past.
    if budgets[1].covers(budgets[0]) and not new.get("phases"):
        changed = [key for key in changed if key not in BUDGET]
    if changed and not after.trainer.resume_force:
        what = [f"{key}={_shown(new[key])} (was {_shown(old.get(key))})" for key in changed]
        others = f" and {len(what) - NAMED} more" if len(what) > NAMED else ""
        raise UserError(
            f"trainer.resume: the result would differ with {', '.join(what[:NAMED])}"
            f"{others}; trainer.resume_force=true resumes it anyway."
        )
    return not budgets[0].covers(budgets[1])


def _shown(value: object) -> str:
    """Return a value as the user wrote it, without what the options of phases bring."""
    if isinstance(value, list):
        value = [without_brought(one) if isinstance(one, dict) else one for one in value]
    return value_text(value) if isinstance(value, list | dict) else str(value)


def _settled(composed: DictConfig) -> DictConfig:
    settled = composed.copy()
    OmegaConf.set_struct(settled, False)
    sweep = OmegaConf.select(composed, "sweep", throw_on_resolution_failure=False)
    for key, value in (("trainer.resume", None), ("trainer.resume_force", False), ("sweep", sweep)):
        OmegaConf.update(settled, key, value)
    return settled
