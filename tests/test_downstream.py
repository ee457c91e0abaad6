"""What pre-training gains downstream, measured on Python's own documentation."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from folders import summary

from bertexp.config import Config
from bertexp.data.corpora.corpus import prepare
from bertexp.evaluation.probes.tasks import Passages, ProbeTask, prepare_tasks

# Small, so that it learns in the time a test may take: 600 steps came to 0.419 where the untrained
# model comes to 0.357. Of two accuracies on the same 664 texts, 0.03 is about the noise.
CORPUS = ("dataset=stdlib", "evaluation.probes=[package]", "evaluation.probe_examples=2000")
SMALL = (*CORPUS, "model.hidden_size=64", "model.intermediate_size=256", "trainer.batch_size=32")
STEPS, RATE = 600, 2e-3
MARGIN = 0.03


@pytest.fixture(scope="module")
def runs(command: Callable[..., Any]) -> dict[int, Path]:
    """Runs by their steps: one that has learnt something, and one whose weights are those drawn."""
    found = {}
    folder = None
    for steps, rate in ((STEPS, RATE), (1, 1e-12)):
        done = command(
            *(*SMALL, f"trainer.max_steps={steps}", f"optimizer.lr={rate}", "tracker=none"),
            *("evaluation.every=null", "evaluation.max_examples=8", f"hydra.run.dir={steps}"),
            *("evaluation.pseudo_perplexity=0", "hardware.threads=1"),
            folder=folder,
        )
        assert done.code == 0, done.lines
        folder = done.folder
        found[steps] = folder / str(steps)
    return found


def package(run: Path) -> dict[str, Any]:
    (found,) = summary(run)["probes"]
    return dict(found)


def test_a_pre_trained_encoder_tells_packages_apart_better_than_an_untrained_one(
    runs: dict[int, Path],
) -> None:
    trained, untrained = package(runs[STEPS]), package(runs[1])
    assert trained["accuracy"] > untrained["accuracy"] + MARGIN
    # Both are far above the majority class; TF-IDF is the same for both.
    assert untrained["accuracy"] > 2 * untrained["majority"]
    assert trained["tfidf"] == untrained["tfidf"]


@pytest.fixture
def probe(runs: dict[int, Path], experiment_config: Callable[..., Config]) -> Iterator[ProbeTask]:
    """The texts of the package probe, from the runs' own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERTEXP_CACHE", str(runs[STEPS].parent / "cache"))
        config = experiment_config(*CORPUS)
        passages = Passages(prepare(config.dataset), config.dataset.name, config.dataset.language)
        yield prepare_tasks(["package"], passages, config.evaluation.probe_examples)[0]


def test_fine_tuning_beats_the_linear_probe_on_the_same_texts(
    runs: dict[int, Path], probe: ProbeTask, command: Callable[..., Any]
) -> None:
    run = runs[STEPS]
    parts = {"train": slice(probe.fitted), "dev": slice(probe.fitted, None)}
    for name, part in parts.items():
        with (run.parent / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            names = [probe.classes[label] for label in probe.labels[part]]
            writer.writerows(zip(probe.texts[part], names, strict=True))
    done = command(
        *(str(run), "finetune.train=train.csv", "finetune.validation=dev.csv", "tracker=none"),
        # A model so small likes a higher rate than most.
        *("optimizer.lr=1e-3", "trainer.epochs=10"),
        *("hydra.run.dir=finetuned", "hardware.threads=1"),
        module="bertexp.finetune",
        folder=run.parent,
    )
    assert done.code == 0, done.lines
    found = summary(run.parent / "finetuned")
    assert found["metrics"]["eval/accuracy"] > package(run)["accuracy"]
