"""What probes measure: features as transformers gives them, and what a classifier makes of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bertexp.evaluation.probes.tasks import ProbeTask
from bertexp.evaluation.probing import accuracy, layer_features, tfidf_accuracy
from bertexp.experiment.saved import find_saved
from bertexp.metrics import wilson

CPU = torch.device("cpu")


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_features_are_those_of_transformers_text_by_text(
    trained: Callable[[str], Path], pooling: str
) -> None:
    from transformers import AutoModel, AutoTokenizer

    run = trained("mlm")
    saved = find_saved(str(run))
    texts = ["Ba da ga.", "ba " * 90, "Ka la ma na pa ra sa."]
    found = layer_features(saved.load_model().bert, saved.load_tokenizer(), texts, 64, pooling, CPU)
    model, tokenizer = (kind.from_pretrained(run / "model") for kind in (AutoModel, AutoTokenizer))
    assert found.shape == (model.config.num_hidden_layers + 1, len(texts), 32)
    for number, text in enumerate(texts):
        inputs = tokenizer(text, truncation=True, max_length=64, return_tensors="pt")
        with torch.no_grad():
            states = model.eval()(**inputs, output_hidden_states=True).hidden_states
        for layer, state in enumerate(states):
            wanted = state[0].mean(0) if pooling == "mean" else state[0, 0]
            assert found[layer, number] == pytest.approx(wanted.numpy(), abs=1e-5)


def test_a_linear_classifier_finds_what_is_linear_and_nothing_else() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(300) % 3
    task = ProbeTask("made up", [f"w{n} x" for n in labels], labels, ["a", "b", "c"])
    noise = generator.normal(size=(300, 8))
    assert accuracy(noise, task) < 0.5
    shown = noise.copy()
    shown[np.arange(300), labels] += 8
    assert accuracy(shown, task) == 1.0
    # Another scale is no other feature.
    assert accuracy(1000 * shown, task) == 1.0
    assert tfidf_accuracy(task) == 1.0
    same = ProbeTask("made up", ["x"] * 300, labels, ["a", "b", "c"])
    assert tfidf_accuracy(same) == pytest.approx(1 / 3)


def test_a_run_ends_with_its_probes(command: Callable[..., Any], trained: Any) -> None:
    run = trained("mlm")
    done = command(
        *(str(run), "evaluation.probes=[length,word]", "evaluation.probe_examples=120"),
        "save=probed",
        module="bertexp.evaluate",
        BERTEXP_CACHE=str(run.parent / "cache"),
    )
    assert done.code == 0, done.said
    found = json.loads((run / "evaluations" / "probed.json").read_text())
    length, word = found["probes"]
    assert (length["name"], word["name"]) == ("length", "word")
    assert found["metrics"]["eval/probe/length"] == length["accuracy"] == length["layers"][-1]
    assert length["majority"] == pytest.approx(1 / 6)
    assert word["majority"] == 0.5
    assert found["answered"] == {"eval/probe/length": 42, "eval/probe/word": 40}
    low, high = wilson(length["accuracy"], 42)
    assert f"{low:.3f} to {high:.3f} (42)" in done.output
    assert {"probe/length", "probe/word"} <= found["fingerprints"]["bank"].keys()
    assert re.search(
        r"^probe +accuracy +95% \(texts\) +majority +TF-IDF +best layer$", done.output, re.MULTILINE
    )
    assert "examples   not those" in done.output


def test_a_run_logs_its_probes_and_draws_their_layers(command: Callable[..., Any]) -> None:
    done = command(
        *("dataset=synthetic", "dataset.synthetic.documents=60", "dataset.validation_fraction=0.2"),
        *("evaluation.probes=[length,word]", "evaluation.probe_examples=120"),
        *("tokenizer.vocab_size=256", "evaluation.max_examples=8", "trainer.max_steps=2"),
        *("model.hidden_size=32", "evaluation.pseudo_perplexity=0", "hydra.run.dir=run"),
        *("tracker=wandb", "tracker.mode=offline"),
    )
    assert done.code == 0, done.said
    run = done.folder / "run"
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    summary = json.loads((run / "summary.json").read_text())
    for probed in summary["probes"]:
        assert last[f"eval/probe/{probed['name']}"] == probed["accuracy"]
        assert len(probed["layers"]) == 3
    picture = (run / "probes.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    logged = done.folder.glob("outputs/wandb/offline-run-*/files/media/images/evaluation/*.png")
    assert [path.read_bytes() for path in logged] == [picture]


def test_a_layer_that_is_not_there_is_said_in_one_line(
    command: Callable[..., Any], trained: Any
) -> None:
    run = trained("mlm")
    done = command(
        *(str(run), "evaluation.probes=[length]", "evaluation.probe_layer=3"),
        module="bertexp.evaluate",
        BERTEXP_CACHE=str(run.parent / "cache"),
    )
    said = "error: evaluation.probe_layer=3: must be at most 2, the model's layers, or null."
    assert (done.code, done.said) == (1, [said])
