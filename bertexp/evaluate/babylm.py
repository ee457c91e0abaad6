"""Predictions in the form of the BabyLM challenge's evaluation pipeline of 2025.

Its script collects ``results/<model>/main/zero_shot/<backend>/<task>/<data>/predictions.json``: by
kind of pair, the sentence that the model prefers, numbered in order of the data.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bertexp.evaluation.config import EvaluationConfig
from bertexp.evaluation.grammar import GENERATED, KEY
from bertexp.experiment.summary import write_json
from bertexp.validation import UserError

if TYPE_CHECKING:
    from bertexp.evaluation.minimal_pairs import MinimalPairs

BABYLM = "babylm"
FILE = "predictions.json"


def check_babylm(config: EvaluationConfig) -> None:
    """Raise a ``UserError`` unless all pairs of files are scored."""
    if config.minimal_pairs in (None, GENERATED):
        raise UserError(
            f"format={BABYLM}: needs {KEY}=FOLDER, the pipeline's data, such as "
            "evaluation_data/full_eval/blimp_filtered."
        )
    if config.max_examples is not None:
        raise UserError(
            f"format={BABYLM}: the pipeline expects all pairs; set evaluation.max_examples=null."
        )


def write_predictions(folder: Path, evaluator: MinimalPairs, is_causal: bool) -> Path:
    """Write what the model prefers into ``folder``, which the pipeline names after the model."""
    found: dict[str, dict[str, list[dict[str, str]]]] = {}
    for kind, sentence in evaluator.chosen():
        rows = found.setdefault(kind, {"predictions": []})["predictions"]
        rows.append({"id": f"{kind}_{len(rows)}", "pred": sentence})
    data = Path(str(evaluator.source.config.minimal_pairs)).name.partition(".")[0]
    place = folder / "main" / "zero_shot" / ("causal" if is_causal else "mlm") / "blimp" / data
    place.mkdir(parents=True, exist_ok=True)
    write_json(place / FILE, found)
    return place / FILE
