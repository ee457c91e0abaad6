"""Saved models: of a run, one of its checkpoints, a folder or a name on the Hub."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from bertexp.config import Config, parse
from bertexp.console import plural
from bertexp.data.hub import find_file, is_unreachable
from bertexp.experiment.folder import CONFIG_FILE, recorded
from bertexp.experiment.phases import parts
from bertexp.experiment.summary import read_summary
from bertexp.files import expanded
from bertexp.training.checkpoints import FOLDER, find_checkpoints, read_checkpoint
from bertexp.validation import UserError

if TYPE_CHECKING:
    from bertexp.data.tokens.tokenizer import Tokenizer
    from bertexp.objectives.base import Objective

MODEL = "model"


@dataclass(frozen=True)
class Saved:
    """Where a saved model is.

    Attributes:
        source: an argument for ``from_pretrained``.
        run: the folder of its run; None for a model from elsewhere.
    """

    source: str
    run: Path | None

    def load_model(self) -> Any:
        """Return the model in evaluation mode, with its saved heads."""
        from bertexp.families.checkpoint import load_model

        return load_model(self.source, key="run").eval()

    def architecture(self) -> Any:
        """Return the model's configuration; its weights are not read."""
        from bertexp.families.architecture import read_architecture

        return read_architecture(self.source, key="run")

    def load_tokenizer(self) -> Tokenizer:
        """Return its tokenizer: for a run, identical to the one it was trained with."""
        from bertexp.data.tokens.saved import open_tokenizer
        from bertexp.families.architecture import check_fit

        tokenizer = open_tokenizer(self.source, key="run")
        check_fit(self.architecture(), tokenizer.vocab_size, f"run={self.source}")
        return tokenizer

    def objectives(self, tokenizer: Tokenizer) -> Sequence[Objective]:
        """Return the objectives of its task if any predicts with modules beside the model.

        Raises:
            UserError: there is one, but the model is not in its run's folder: its task is unknown.
        """
        from bertexp.families.checkpoint import BESIDE_FILE
        from bertexp.families.kind import REPLACED
        from bertexp.objectives import OBJECTIVES
        from bertexp.objectives.task import Task

        composed = self._composed()
        names = getattr(self.architecture(), "predicted_by", ())
        if composed:
            names = OmegaConf.select(composed, "task.objectives")
        known = [each for each in names or () if OBJECTIVES.has(each)]
        own = [name for name in known if OBJECTIVES[name].encodes]
        # A generator, which is exported with another model, has no modules beside it.
        if (Path(self.source) / BESIDE_FILE).is_file():
            own += [name for name in known if OBJECTIVES[name].head == REPLACED]
        if not own:
            return ()
        if composed is None:
            raise UserError(
                f"run={self.source}: predicts as task={own[0]} does, whose keys are in its run's "
                "folder; give that."
            )
        config: Config = parse(composed)
        return Task.of(config.task, tokenizer, config.masking, config.seed).objectives

    @property
    def writes(self) -> bool:
        """Whether its task trains it to fill any number of masks; False where none is recorded."""
        from bertexp.objectives import OBJECTIVES

        composed = self._composed()
        names = OmegaConf.select(composed, "task.objectives") if composed else None
        return any(OBJECTIVES.has(each) and OBJECTIVES[each].writes for each in names or ())

    def _composed(self) -> DictConfig | None:
        """Return the configuration of its run's last phase, if it has a run."""
        stored = recorded(self.run, "config") if self.run else None
        return parts(stored)[-1] if stored else None

    def max_length(self, config: Any) -> int:
        """Return the longest input in tokens: that of training, else the model's positions."""
        from bertexp.families import FAMILIES

        positions = FAMILIES[config.model_type].positions(config)
        path = Path(self.source) / "tokenizer_config.json"
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return min(positions, int(known.get("model_max_length") or positions))


def find_saved(name: str) -> Saved:
    """Return the model that a user names: that of a run, one of its checkpoints, or any other.

    Args:
        name: a run's folder, ``<run>/checkpoints/step-<n>``, a folder or a Hub name.

    Raises:
        UserError: there is no such folder or model, the run has no model, or a checkpoint is
            damaged.
    """
    folder = expanded(name)
    if not folder.is_dir():
        if folder.is_absolute() or len(folder.parts) > 2:
            raise UserError(f"run={name}: there is no such folder.")
        if is_unreachable(name) and find_file(name, "config.json") is None:
            raise UserError(
                f"run={name}: there is no such folder, nor a model of this name in the cache of "
                "the Hugging Face Hub here, and the Hub does not answer."
            )
        return Saved(name, None)
    if recorded(folder, "config") is not None:
        return Saved(str(_last_model(folder)), folder)
    if folder.parent.name == FOLDER:
        try:
            read_checkpoint(folder)
        except ValueError as error:
            raise UserError(f"run={name}: {error}.") from error
    if not (folder / "config.json").exists():
        if runs := _runs_below(folder):
            # The first that has a model, if any has.
            run = max(runs, key=lambda each: (each / MODEL).is_dir())
            raise UserError(
                f"run={name}: holds {plural(len(runs), 'run')}, as a sweep's folder does; give one "
                f"of them, such as {run}."
            )
        raise UserError(f"run={name}: the folder has neither a run nor a model in it.")
    above = (parent for parent in list(folder.resolve().parents)[:2] if recorded(parent, "config"))
    return Saved(str(folder), next(above, None))


def runs_in(named: str) -> list[str]:
    """Return the runs in a sweep's folder that have a model; for any other name the name itself."""
    folder = expanded(named)
    if recorded(folder, "config") is not None:
        return [named]
    return [str(run) for run in _runs_below(folder) if (run / MODEL).is_dir()] or [named]


def _runs_below(folder: Path) -> list[Path]:
    return sorted(path.parents[1] for path in folder.glob(f"*/{CONFIG_FILE}"))


def _last_model(run: Path) -> Path:
    """Return ``model/``, or the newest checkpoint if that is missing or older."""
    summary, model = read_summary(run), run / MODEL
    exported = (model / "config.json").exists()
    if exported and summary.get("status") not in ("running", "interrupted", "failed"):
        return model
    checkpoints = find_checkpoints(run)
    if exported and (not checkpoints or checkpoints[-1].step <= summary["budget"]["step"]):
        return model
    if not checkpoints:
        raise UserError(f"run={run}: the run has saved no model yet.")
    return checkpoints[-1].path
