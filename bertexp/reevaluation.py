"""A saved run evaluated again: model, data, the bank's answers, report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.text import Text

from bertexp import report
from bertexp.config import Config
from bertexp.data import Data, prepare_data
from bertexp.evaluation.whole import evaluate_whole
from bertexp.files import shown
from bertexp.models.objective import Objective
from bertexp.probes.measure import must_have_layer
from bertexp.runs import outcome
from bertexp.runs.saved import Saved
from bertexp.runs.summary import read_summary, versions, write_json
from bertexp.tasks import TASKS
from bertexp.training.checkpoints import PROGRESS_FILE
from bertexp.training.setup import build_accelerator
from bertexp.training.state import TrainState
from bertexp.validation import UserError

FOLDER = "evaluations"
HEADS = {"mlm": "predictions", "nsp": "seq_relationship"}


def reevaluate(config: Config, saved: Saved, save: str | None, changed: Sequence[str]) -> float:
    """Evaluate a saved run as it was evaluated at its end; returns ``eval/loss``.

    The text is cut with the model's own tokenizer, whatever the corpus.

    Args:
        config: what the run was asked to do, with what is to be otherwise now.
        saved: its model.
        save: the name of the file in the run's ``evaluations`` to write; None for none.
        changed: what is otherwise than it was, as overrides, for the record.

    Raises:
        UserError: data that cannot be prepared, or a task that the model has no head for.
    """
    assert saved.run is not None
    model: Any = saved.load_model()
    _must_have_heads(config, saved, model)
    data = prepare_data(config, saved.load_tokenizer())
    device = build_accelerator(config.hardware, []).device
    objective = Objective(model).to(device)
    must_have_layer(config.evaluation, model.config.num_hidden_layers)
    found = evaluate_whole(config, data, objective, device)
    metrics, yardsticks = found.metrics, data.bank.yardsticks
    path = saved.run / FOLDER / f"{save}.json" if save else None
    if path:
        record = {
            "model": str(Path(saved.source).resolve().relative_to(saved.run.resolve())),
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
    answered = outcome.answered(data)
    spent = _spent(saved)
    report.show(report.results(metrics, yardsticks, data.optimum, found.probed, spent, answered))
    report.show(Group(Text(f"model      {shown(saved.source)}"), _questions(saved.run, data)))
    if path:
        # In one line, however long: to be copied.
        print(f"saved      {shown(path)}")
    return metrics["eval/loss"]


def _must_have_heads(config: Config, saved: Saved, model: Any) -> None:
    for objective in TASKS[config.task.name].objectives:
        if not hasattr(getattr(model, "cls", None), HEADS[objective]):
            raise UserError(
                f"task={config.task.name}: {saved.source} is a {type(model).__name__}, which has "
                "no head for it."
            )


def _spent(saved: Saved) -> TrainState:
    """Return what had been spent on the model."""
    assert saved.run is not None
    progress = Path(saved.source) / PROGRESS_FILE
    if progress.exists():
        return TrainState(**json.loads(progress.read_text(encoding="utf-8"))["state"])
    return TrainState(**read_summary(saved.run)["budget"])


def _questions(run: Path, data: Data) -> Text:
    """Say whether the run was asked the same at its end."""
    then = read_summary(run).get("fingerprints", {}).get("bank")
    if then == outcome.fingerprints(data)["bank"]:
        return Text("questions  those that the run is asked at its end")
    return Text("questions  not those that the run is asked at its end: do not compare with it")
