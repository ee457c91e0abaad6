"""Evaluates a saved model again, as at the end of its run or with other settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.text import Text

from bertexp.config import Config
from bertexp.console import short_path, show
from bertexp.evaluation.evaluator import Evaluation, evaluate_fully
from bertexp.evaluation.minimal_pairs import MinimalPairs
from bertexp.experiment import report
from bertexp.experiment.folder import EVALUATIONS
from bertexp.experiment.prepare import Data, prepare_data
from bertexp.experiment.saved import Saved
from bertexp.experiment.summary import read_summary, versions
from bertexp.families.architecture import check_pairs
from bertexp.families.base import REPLACED, Family
from bertexp.families.trials import check_restricted
from bertexp.files import write_json
from bertexp.metrics import own_rows
from bertexp.objectives import OBJECTIVES
from bertexp.objectives.learner import Learner
from bertexp.objectives.replaced import GENERATOR
from bertexp.sweeps.stored import folder_name
from bertexp.training.checkpoints import PROGRESS_FILE
from bertexp.training.setup import build_accelerator
from bertexp.training.state import TrainState
from bertexp.validation import UserError, require

# The folder for models without a run.
PLACE = Path("outputs/evaluate")


def reevaluate(
    config: Config,
    saved: Saved,
    save: str | None,
    changed: Sequence[str],
    *,
    for_babylm: bool,
    in_a_line: bool,
) -> float:
    """Evaluate a saved model, and record and print the results; returns ``eval/loss``.

    Text is tokenized with the model's own tokenizer, whatever the corpus.

    Args:
        config: that of the model's run, changed by ``changed``, the command line's overrides.
        save: the name of the file to write; None for none.
        for_babylm: whether to write the predictions for its pipeline too.
        in_a_line: whether to print a line instead of the whole report.
    """
    data, learner, found = _evaluated(config, saved)
    path = _record(saved, save, changed, data, found) if save else None
    if in_a_line:
        show(Text(report.evaluation_line(None, found.metrics)))
    else:
        _show(config, saved, data, found)
    if path:
        print(short_path(path))
    if for_babylm:
        written = _write_predictions(
            _place(saved) / "babylm" / (saved.run or Path(saved.source)).name,
            next(one for one in data.evaluators if isinstance(one, MinimalPairs)),
            learner.is_causal,
        )
        print(f"for babylm {short_path(written)}")
    return found.metrics["eval/loss"]


def _evaluated(config: Config, saved: Saved) -> tuple[Data, Learner, Evaluation]:
    model: Any = saved.load_model()
    _check_model(config, saved, model)
    data = prepare_data(config, saved.load_tokenizer())
    for evaluator in data.evaluators:
        evaluator.check(model)
    device = build_accelerator(config.hardware, []).device
    learner = Learner(model, data.task.objectives).to(device)
    learner.load_own(Path(saved.source))
    return data, learner, evaluate_fully(learner, data.bank, data.evaluators, device)


def _write_predictions(folder: Path, evaluator: MinimalPairs, is_causal: bool) -> Path:
    """Write the preferred sentences as BabyLM's evaluation pipeline of 2025 collects them.

    It reads ``results/<model>/main/zero_shot/<backend>/<task>/<data>/predictions.json``: by kind of
    pair, the sentence that the model prefers, numbered in order of the data.

    Args:
        folder: named after the model.
    """
    found: dict[str, dict[str, list[dict[str, str]]]] = {}
    for kind, sentence in evaluator.chosen():
        rows = found.setdefault(kind, {"predictions": []})["predictions"]
        rows.append({"id": f"{kind}_{len(rows)}", "pred": sentence})
    data = Path(str(evaluator.source.config.minimal_pairs)).name.partition(".")[0]
    place = folder / "main" / "zero_shot" / ("causal" if is_causal else "mlm") / "blimp" / data
    path = place / "predictions.json"
    write_json(path, found)
    return path


def _check_model(config: Config, saved: Saved, model: Any) -> None:
    family = Family.of(model)
    # An objective has a head of its own for replaced tokens where the model has none.
    if not config.task.heads - {REPLACED} <= family.heads:
        generator = Path(saved.source) / GENERATOR
        other = f"; its generator is {short_path(generator)}" * generator.is_dir()
        raise UserError(
            f"task={config.task.name}: {saved.source} is a {type(model).__name__}, which has "
            f"no head for it{other}."
        )
    encoding = [name for name in config.task.objectives if OBJECTIVES[name].encodes]
    if getattr(model.config, "predicted_by", []) != encoding:
        raise UserError(
            f"task={config.task.name}: {saved.source} was not trained to predict as this task does;"
            " leave it out."
        )
    if config.task.uses_sentences:
        check_pairs(model.config, "task")
    if config.task.limits_attention:
        check_restricted(model.config, f"task={config.task.name}")
    positions, length = family.positions(model.config), config.task.max_length
    allowed = f"at most {positions}, the model's positions"
    require(length <= positions, "task.max_length", length, allowed)


def _record(saved: Saved, name: str, changed: Sequence[str], data: Data, found: Evaluation) -> Path:
    record: dict[str, Any] = {"model": saved.source}
    if saved.run:
        record["model"] = str(Path(saved.source).resolve().relative_to(saved.run.resolve()))
    record |= {"overrides": list(changed), "metrics": found.metrics}
    if rows := own_rows(found.metrics):
        record["metric_rows"] = rows
    record |= {
        **data.summary,
        "yardsticks": data.reference.yardsticks,
        "optimum": data.reference.optimum,
        "answered": data.reference.answered,
        "fingerprints": data.fingerprints,
        "versions": versions(),
    }
    path = _place(saved) / f"{name}.json"
    write_json(path, record)
    for evaluator in data.evaluators:
        evaluator.draw(path.with_suffix(""))
    return path


def _place(saved: Saved) -> Path:
    return saved.run / EVALUATIONS if saved.run else PLACE / folder_name(saved.source)


def _show(config: Config, saved: Saved, data: Data, found: Evaluation) -> None:
    budget, metrics, known = _budget_spent(saved), found.metrics, data.reference
    columns = {"model": metrics, "yardstick": known.yardsticks, "optimum": known.optimum}
    heading = report.budget_text(budget) if budget else ""
    show(report.results(heading, columns, known.answered, data.details(metrics)))
    if saved.run is None:
        documents = data.corpus.sizes["validation"].documents
        examples = f"{config.task.name} on {documents:,} documents of {config.dataset.name}"
    else:
        examples = "those of the run's own evaluation"
        examples = (
            examples if _is_same(saved.run, data) else f"not {examples}: do not compare with it"
        )
    show(Group(Text(f"model      {short_path(saved.source)}"), Text(f"examples   {examples}")))


def _is_same(run: Path, data: Data) -> bool:
    """Whether everything was evaluated on what the run was, as far as the run evaluated it.

    A bank may have another name there: that of its generator is masked language modelling's.
    """
    theirs = read_summary(run).get("fingerprints", {}).get("bank", {})
    ours = data.fingerprints["bank"]
    is_there = {*data.bank.reference.fingerprints.values()} <= {*theirs.values()}
    return is_there and all(theirs.get(name, ours[name]) == ours[name] for name in ours)


def _budget_spent(saved: Saved) -> TrainState | None:
    if saved.run is None:
        return None
    progress = Path(saved.source) / PROGRESS_FILE
    if progress.exists():
        return TrainState(**json.loads(progress.read_text(encoding="utf-8"))["state"])
    budget = read_summary(saved.run).get("budget")
    return TrainState(**budget) if budget else None
