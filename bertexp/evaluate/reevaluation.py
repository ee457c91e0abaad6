"""A saved run evaluated again: model, data, the bank's answers, report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.text import Text

from bertexp.config import Config
from bertexp.evaluation.probes.measure import must_have_layer
from bertexp.evaluation.whole import evaluate_whole
from bertexp.experiment import outcome, report
from bertexp.experiment.prepare import Data, prepare_data
from bertexp.experiment.saved import Saved
from bertexp.experiment.summary import read_summary, versions, write_json
from bertexp.families.checkpoint import must_read_pairs
from bertexp.files import shown
from bertexp.objectives.learner import Learner
from bertexp.sweeps.launcher import folder_name
from bertexp.training.checkpoints import PROGRESS_FILE
from bertexp.training.setup import build_accelerator
from bertexp.training.state import TrainState
from bertexp.validation import UserError, require

FOLDER = "evaluations"
# For models that are of no run.
PLACE = Path("outputs/evaluate")
HEADS = {"masked": "predictions", "pair": "seq_relationship"}


def reevaluate(
    config: Config,
    saved: Saved,
    save: str | None,
    changed: Sequence[str],
    *,
    in_a_line: bool = False,
) -> float:
    """Evaluate a saved model, as its run was at its end if it has one; returns ``eval/loss``.

    The text is cut with the model's own tokenizer, whatever the corpus.

    Args:
        config: what the run was asked to do, with what is to be otherwise now.
        saved: its model.
        save: the name of the file to write, see ``_place``; None for none.
        changed: what is otherwise than it was, as overrides, for the record.
        in_a_line: show only that, and not the whole report.

    Raises:
        UserError: data that cannot be prepared, or a task that the model has no head for.
    """
    model: Any = saved.load_model()
    _must_have_heads(config, saved, model)
    if config.task.uses_sentences:
        must_read_pairs(model.config, "task")
    positions = model.config.max_position_embeddings
    length, allowed = config.task.max_length, f"at most {positions}, the model's positions"
    require(length <= positions, "task.max_length", length, allowed)
    data = prepare_data(config, saved.load_tokenizer())
    device = build_accelerator(config.hardware, []).device
    learner = Learner(model, data.task.objectives).to(device)
    must_have_layer(config.evaluation, model.config.num_hidden_layers)
    found = evaluate_whole(config, data, learner, device)
    metrics, yardsticks = found.metrics, data.bank.yardsticks
    path = _place(saved) / f"{save}.json" if save else None
    if path:
        source = Path(saved.source).resolve()
        record = {
            "model": str(source.relative_to(saved.run.resolve())) if saved.run else saved.source,
            "overrides": list(changed),
            "metrics": metrics,
            "probes": [asdict(one) for one in found.probed],
            "yardsticks": yardsticks,
            "optimum": data.optimum,
            "answered": outcome.answered(data),
            "fingerprints": outcome.fingerprints(data),
            "versions": versions(),
        }
        write_json(path, record)
    if in_a_line:
        report.show(Text(report.evaluation_line(None, metrics)))
    else:
        spent, answered = _spent(saved), outcome.answered(data)
        figures = (metrics, yardsticks, data.optimum, found.probed, spent, answered)
        report.show(report.results(*figures))
        report.show(
            Group(Text(f"model      {shown(saved.source)}"), *_questions(config, saved, data))
        )
    if path:
        # In one line, however long: to be copied.
        print(f"saved      {shown(path)}")
    return metrics["eval/loss"]


def _must_have_heads(config: Config, saved: Saved, model: Any) -> None:
    for head in config.task.heads:
        if not hasattr(getattr(model, "cls", None), HEADS[head]):
            raise UserError(
                f"task={config.task.name}: {saved.source} is a {type(model).__name__}, which has "
                "no head for it."
            )


def _place(saved: Saved) -> Path:
    """Return where evaluations are saved: in the run, else in ``outputs/evaluate/<model>/``."""
    return saved.run / FOLDER if saved.run else PLACE / folder_name(saved.source)


def _spent(saved: Saved) -> TrainState | None:
    """Return what had been spent on the model, None where nobody knows."""
    if saved.run is None:
        return None
    progress = Path(saved.source) / PROGRESS_FILE
    if progress.exists():
        return TrainState(**json.loads(progress.read_text(encoding="utf-8"))["state"])
    budget = read_summary(saved.run).get("budget")
    return TrainState(**budget) if budget else None


def _questions(config: Config, saved: Saved, data: Data) -> list[Text]:
    """Return what the model was evaluated on, and whether its run was evaluated on the same."""
    if saved.run is None:
        documents = data.corpus.sizes["validation"].documents
        asked = f"{config.task.name} on {documents:,} documents of {config.dataset.name}"
        return [Text(f"questions  {asked}")]
    then = read_summary(saved.run).get("fingerprints", {}).get("bank")
    if then == outcome.fingerprints(data)["bank"]:
        return [Text("questions  those that the run is asked at its end")]
    return [Text("questions  not those that the run is asked at its end: do not compare with it")]
