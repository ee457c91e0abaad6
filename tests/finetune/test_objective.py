"""A batch with labels is what transformers makes of the texts, and so are its logits and loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from bertexp.experiment.saved import find_saved
from bertexp.families.checkpoint import load_classifier
from bertexp.finetune.evaluation import predict
from bertexp.finetune.labelled import LabelHead, LabelledExamples
from bertexp.finetune.rows import Split
from bertexp.objectives.learner import Learner
from bertexp.objectives.positions import filled, packed

TEXTS = ["ba da ga", "ba " * 60, "ka la ma na", "pa"]
SECONDS = ["ra sa ta", "va za", "ka la ma na " * 20, "pa ra"]


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("labels", [["no", "yes", "maybe"], []])
def test_inputs_logits_and_losses_are_those_of_transformers(
    trained: Callable[[str], Path], pairs: bool, labels: list[str]
) -> None:
    run = trained("mlm")
    answers = ["yes", "no", "maybe", "yes"] if labels else [0.5, 2.0, -1.0, 0.0]
    split = Split("a test", TEXTS, SECONDS if pairs else [], answers)
    saved = find_saved(str(run))
    examples = LabelledExamples(split, labels, saved.load_tokenizer(), 32)
    torch.manual_seed(0)
    model = load_classifier(saved.source, labels).eval()
    learner = Learner(model, [LabelHead()])
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    written = tokenizer(
        TEXTS, SECONDS if pairs else None, truncation="longest_first", max_length=32, padding=True,
        return_tensors="pt",
    )  # fmt: skip
    batch = examples.batch(0, np.arange(4))
    assert batch.input_ids_BL.tolist() == written["input_ids"].tolist()
    if pairs:
        assert batch.token_type_ids_BL is not None
        assert batch.token_type_ids_BL.tolist() == written["token_type_ids"].tolist()
    with torch.no_grad():
        wanted = model(**written, labels=batch.targets["label"].labels_N)
        # As it is, and for a step on a GPU.
        found = [learner(each)["label"] for each in (batch, filled(packed(batch, 8)))]
    for loss in found:
        assert loss.item() / 4 == pytest.approx(wanted.loss.item(), rel=1e-5)
    assert batch.predictions == {"label": 4}
    assert learner.flops(batch) > 0
    # In whatever order batches are made, answers are in that of the texts.
    predicted = predict(learner, examples, torch.device("cpu"))
    assert predicted.numpy() == pytest.approx(wanted.logits.numpy(), abs=1e-5)


def test_a_head_of_another_task_is_made_anew(
    trained: Callable[[str], Path], tmp_path: Path
) -> None:
    source = find_saved(str(trained("mlm"))).source
    torch.manual_seed(0)
    load_classifier(source, ["a", "b", "c"]).save_pretrained(tmp_path / "three")
    path = str(tmp_path / "three")
    same, other = load_classifier(path, ["x", "y", "z"]), load_classifier(path, ["x", "y"])
    first = load_classifier(path, ["a", "b", "c"])
    assert torch.equal(same.classifier.weight, first.classifier.weight)
    assert other.classifier.weight.shape[0] == 2
    assert other.config.id2label == {0: "x", 1: "y"}
    assert load_classifier(path, []).config.problem_type == "regression"
