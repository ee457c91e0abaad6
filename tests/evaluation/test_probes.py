"""Probes: balanced tasks that are what they are called, features as transformers gives them."""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bertexp.config import Config
from bertexp.data.corpora.corpus import prepare
from bertexp.evaluation.logistic import FOLDS, STRENGTHS, accuracies
from bertexp.evaluation.probes import PROBES
from bertexp.evaluation.probes.tasks import (
    Passages,
    ProbeTask,
    balanced,
    prepare_tasks,
)
from bertexp.evaluation.probing import accurate, layer_features, scaled
from bertexp.evaluation.tfidf import tfidf_accuracy
from bertexp.experiment.saved import find_saved
from bertexp.metrics import wilson

Made = Callable[..., dict[str, ProbeTask]]


@pytest.fixture(scope="session")
def tasks(
    experiment_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory
) -> Made:
    """Return a function that makes all tasks of a corpus, by default in one cache."""
    folder = tmp_path_factory.mktemp("probes")

    def make(*overrides: str, count: int = 400, cache: Path | None = None) -> dict[str, ProbeTask]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BERTEXP_CACHE", str(cache or folder))
            config = experiment_config(*overrides).dataset
            passages = Passages(prepare(config), config.name, config.language)
            return {made.name: made for made in prepare_tasks(PROBES.names(), passages, count)}

    return make


def test_tasks_of_pydoc_are_balanced_and_what_they_are_called(tasks: Made) -> None:
    found = tasks("dataset=pydoc", "dataset.max_documents=300")  # numpy and a part of scipy
    assert set(found) == {"package", "order", "word", "length"}
    for task in found.values():
        assert len(set(task.texts)) == len(task.texts) <= 400, "no text is in both parts"
        for part in (task.labels[: task.fitted], task.labels[task.fitted :]):
            counts = Counter(part.tolist())
            assert len(counts) == len(task.classes)
            assert len(set(counts.values())) == 1
    package, word, length = (found[name] for name in ("package", "word", "length"))
    assert {"numpy.lib", "numpy.polynomial", "scipy.integrate"} <= set(package.classes)
    named = zip(package.labels, package.texts, strict=True)
    about = [package.classes[label] for label, text in named if "Legendre" in text]
    assert Counter(about).most_common(1)[0][0] == "numpy.polynomial"
    for text, label in zip(word.texts, word.labels, strict=True):
        there = [each for each in word.classes if each in text.lower()]
        assert word.classes[label] in there
    sizes = np.array([len(text.split()) for text in length.texts])
    groups = [sizes[length.labels == n] for n in range(len(length.classes))]
    assert all(low.max() < high.min() for low, high in pairwise(groups))


def test_half_of_the_pairs_are_swapped(tasks: Made, tmp_path: Path) -> None:
    # The first sentence of each paragraph begins with "The".
    paragraphs = [
        f"The house number {n} stands here. Behind it lies the garden of {n}." for n in range(90)
    ]
    (tmp_path / "text.txt").write_text("\n\n".join(paragraphs))
    found = tasks("dataset=text", f"dataset.files=[{tmp_path}/text.txt]", cache=tmp_path / "cache")
    order = found["order"]
    swapped = [text.startswith("Behind") for text in order.texts]
    assert [order.classes[label] == "swapped" for label in order.labels] == swapped
    assert sum(swapped) == len(swapped) / 2
    # A document of one paragraph is no class.
    assert "package" not in found


def test_tasks_depend_on_the_corpus_alone(tasks: Made, tmp_path: Path) -> None:
    first, again = tasks("dataset=synthetic"), tasks("dataset=synthetic", cache=tmp_path / "new")
    assert {name: task.fingerprint for name, task in first.items()} == {
        name: task.fingerprint for name, task in again.items()
    }
    other = tasks("dataset=synthetic", "dataset.synthetic.words=32")
    assert other["word"].fingerprint != first["word"].fingerprint


def test_articles_and_files_are_classes_and_rows_of_a_table_are_not(
    tasks: Made, real_text: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    articles = tasks("dataset=text", f"dataset.files=[{real_text}]")["package"].classes
    assert len(articles) == 8
    assert "Robert Boulter" not in articles  # a short one
    texts = [f"The long paragraph number {n} has words enough to count." for n in range(60)]
    for number, name in enumerate(("law", "news")):
        own = texts[number::2]
        (tmp_path / f"{name}.txt").write_text("\n\n".join(own))
        # Of thirty rows one is long.
        rows = [{"text": "\n".join(own)}, *({"text": text} for text in own)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def classes(ending: str) -> list[str] | None:
        files = f"dataset.files=[{tmp_path}/*.{ending}]"
        found = tasks("dataset=text", files, cache=tmp_path / "cache")
        return found["package"].classes if "package" in found else None

    with caplog.at_level(logging.INFO):
        assert classes("txt") == ["law.txt", "news.txt"]
        assert classes("jsonl") is None
    assert "evaluation.probes=package: left out; fewer than two classes have" in caplog.text


def test_a_class_has_twenty_texts() -> None:
    few = [(f"text {n}", "ab"[n % 2]) for n in range(38)]
    assert balanced(few, 400) == ([], [], [])
    texts, labels, classes = balanced([*few, ("one more", "a"), ("two more", "b")], 400)
    assert (len(texts), labels[:4], classes) == (40, [0, 1, 0, 1], ["a", "b"])


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_features_are_those_of_transformers_text_by_text(
    trained: Callable[[str], Path], pooling: str
) -> None:
    from transformers import AutoModel, AutoTokenizer

    run = trained("mlm")
    saved = find_saved(str(run))
    texts = ["Ba da ga.", "ba " * 90, "Ka la ma na pa ra sa."]
    device, encoder, cut = torch.device("cpu"), saved.load_model().bert, saved.load_tokenizer()
    found = layer_features(encoder, cut, texts, 64, pooling, device)
    model, tokenizer = (kind.from_pretrained(run / "model") for kind in (AutoModel, AutoTokenizer))
    assert found.shape == (model.config.num_hidden_layers + 1, len(texts), 32)
    for number, text in enumerate(texts):
        inputs = tokenizer(text, truncation=True, max_length=64, return_tensors="pt")
        with torch.no_grad():
            states = model.eval()(**inputs, output_hidden_states=True).hidden_states
        for layer, state in enumerate(states):
            wanted = state[0].mean(0) if pooling == "mean" else state[0, 0]
            assert found[layer, number].numpy() == pytest.approx(wanted.numpy(), abs=1e-5)


def test_a_linear_classifier_finds_what_is_linear_and_nothing_else() -> None:
    labels = torch.arange(300) % 3
    noise = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    shown = noise.clone()
    shown[torch.arange(300), labels] += 8
    # Another scale is no other feature, and a constant one does no harm.
    other = 1000 * shown
    other[:, -1] = 7.1
    found = accuracies(scaled(torch.stack([noise, shown, other]), 201), labels, 201)
    assert found[0] < 0.5
    assert found[1:] == [1.0, 1.0]


@pytest.mark.parametrize("classes", [2, 6])
def test_its_accuracies_are_those_of_scikit_learn(classes: int) -> None:
    """Both choose the strength themselves, for features from independent to nearly collinear."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    random, count, size, fitted = np.random.default_rng(1), 4800, 24, 1800
    labels = np.arange(count) % classes
    centres = 0.5 * random.normal(size=(3, classes, size))
    features = centres[:, labels] + random.normal(size=(3, count, size))
    features[1:] *= np.geomspace(1, (1e-2, 1e-4), size, axis=-1)[:, None]
    features = features @ random.normal(size=(3, size, size))
    found = accuracies(
        scaled(torch.from_numpy(features).float(), fitted), torch.from_numpy(labels), fitted
    )
    for accuracy, each in zip(found, features, strict=True):
        search = LogisticRegressionCV(Cs=STRENGTHS, cv=StratifiedKFold(FOLDS), max_iter=1000)
        classifier = make_pipeline(StandardScaler(), search)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # new defaults
            classifier.fit(each[:fitted], labels[:fitted])
        wanted = classifier.score(each[fitted:], labels[fitted:])
        assert accuracy == pytest.approx(wanted, abs=0.005)
        assert 1.3 / classes < wanted < 0.99, "neither nothing nor everything can be told apart"


@pytest.mark.parametrize("classes", [2, 6])
def test_random_labels_are_balanced_and_found_as_by_scikit_learn(classes: int) -> None:
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import StratifiedKFold

    count, fitted, random = 2400, 1200, np.random.default_rng(2)
    labels = np.arange(count) % classes
    task = ProbeTask("made up", ["x"] * count, labels, [str(n) for n in range(classes)])
    control = task.control
    for part in np.split(control, 4):
        assert len({*Counter(part.tolist()).values()}) == 1
    assert np.mean(control == labels) == pytest.approx(1 / classes, abs=0.04)
    # The texts' own classes are plain to see, the random labels are not.
    features = random.normal(size=(count, 24))
    features[np.arange(count), labels] += 3
    features_YND = scaled(torch.from_numpy(features)[None], fitted)
    (own,), (found,) = (accurate(features_YND, each, fitted) for each in (labels, control))
    search = LogisticRegressionCV(Cs=STRENGTHS, cv=StratifiedKFold(FOLDS), max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # new defaults
        search.fit(features_YND[0, :fitted], control[:fitted])
    assert found == pytest.approx(
        search.score(features_YND[0, fitted:], control[fitted:]), abs=0.005
    )
    assert own > 0.9
    assert found == pytest.approx(1 / classes, abs=0.05)


def test_bfloat16_changes_accuracies_by_less_than_the_texts_do(
    trained: Callable[[str], Path], tasks: Made
) -> None:
    saved = find_saved(str(trained("mlm")))
    device, encoder, cut = torch.device("cpu"), saved.load_model().bert, saved.load_tokenizer()
    for task in tasks("dataset=synthetic", count=1200).values():
        given = (encoder, cut, task.texts, 64, "mean", device)
        found = []
        for enabled in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                features_YND = scaled(layer_features(*given), task.fitted)
            found.append(accurate(features_YND, task.labels, task.fitted))
        print(task.name, len(task.texts), found)
        assert found[0] == pytest.approx(found[1], abs=0.02)
        assert np.mean(found[0]) == pytest.approx(np.mean(found[1]), abs=0.005)


def test_words_alone_are_a_yardstick_that_is_computed_once_for_all_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTEXP_CACHE", str(tmp_path))
    labels = np.arange(300) % 3
    task = ProbeTask("made up", [f"w{n} x" for n in labels], labels, ["a", "b", "c"])
    assert tfidf_accuracy(task) == 1.0
    same = ProbeTask("made up", ["x"] * 300, labels, ["a", "b", "c"])
    assert tfidf_accuracy(same) == pytest.approx(1 / 3)
    (kept,) = [path for path in tmp_path.rglob("value.json") if path.read_text() == "1.0"]
    kept.write_text("0.9")
    assert tfidf_accuracy(task) == 0.9
    assert tfidf_accuracy(same) == pytest.approx(1 / 3)


def test_probes_are_evaluated_again_and_a_wrong_layer_is_one_line(
    command: Callable[..., Any], trained: Callable[[str], Path]
) -> None:
    run = trained("mlm")
    probes = (str(run), "evaluation.probes=[length,word]", "evaluation.probe_examples=120")
    cache = {"BERTEXP_CACHE": str(run.parent / "cache")}
    done = command(*probes, "save=probed", module="bertexp.evaluate", **cache)
    assert done.code == 0, done.lines
    assert (run / "evaluations" / "probed-probes.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads((run / "evaluations" / "probed.json").read_text())
    length, word = found["probes"]
    assert (length["name"], word["name"]) == ("length", "word")
    assert found["metrics"]["eval/probe/length"] == length["accuracy"] == length["layers"][-1]
    assert (length["majority"], word["majority"]) == (pytest.approx(1 / 6), 0.5)
    # An untrained encoder sees how long a sentence is; its figures are computed once for all runs.
    assert length["majority"] < length["untrained"] <= 1
    assert word["untrained"] > 0.4
    # Random labels cannot be told apart: by 40 texts no better than chance, within 3 deviations.
    assert abs(length["control"] - 1 / 6) < 0.18 and abs(word["control"] - 0.5) < 0.24
    assert len([*(run.parent / "cache" / "untrained").glob("*/value.json")]) == 2
    assert found["answered"] == {"eval/probe/length": 42, "eval/probe/word": 40}
    low, high = wilson(length["accuracy"], 42)
    assert f"{low:.3f} to {high:.3f} (42)" in done.output
    assert {"probe/length", "probe/word"} <= found["fingerprints"]["bank"].keys()
    head = r"^probe +accuracy +95% \(texts\) +untrained +control +TF-IDF +best layer$"
    assert re.search(head, done.output, re.MULTILINE)
    wrong = command(*probes, "evaluation.probe_layer=3", module="bertexp.evaluate", **cache)
    line = "error: evaluation.probe_layer=3: must be at most 2, the model's layers, or null."
    assert (wrong.code, wrong.lines) == (1, [line])


def test_a_run_logs_its_probes(command: Callable[..., Any]) -> None:
    done = command(
        *("dataset=synthetic", "dataset.synthetic.documents=60", "dataset.validation_fraction=0.2"),
        *("evaluation.probes=[length,word]", "evaluation.probe_examples=120"),
        *("tokenizer.vocab_size=256", "evaluation.max_examples=8", "trainer.max_steps=2"),
        *("model.hidden_size=32", "evaluation.pseudo_perplexity=0", "hydra.run.dir=run"),
        *("tracker=wandb", "tracker.mode=offline"),
    )
    assert done.code == 0, done.lines
    run = done.folder / "run"
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    for probed in json.loads((run / "summary.json").read_text())["probes"]:
        assert last[f"eval/probe/{probed['name']}"] == probed["accuracy"]
        assert len(probed["layers"]) == 3
    tables = [*done.folder.glob("outputs/wandb/offline-run-*/files/media/table/**/probes_*.json")]
    assert json.loads(tables[0].read_text())["columns"][:4] == [
        *("name", "accuracy", "untrained", "control")
    ]
