"""The texts of the probes: balanced, the same for every run, and what they say they are."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from bertexp.config import Config
from bertexp.data.corpora.corpus import prepare
from bertexp.evaluation.probes import PROBES
from bertexp.evaluation.probes.tasks import Passages, ProbeTask, choose, prepare_tasks

Asked = Callable[..., dict[str, ProbeTask]]


@pytest.fixture(scope="session")
def asked(
    experiment_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory
) -> Asked:
    """Return a function that makes the tasks of a corpus in a cache that may be there."""
    folder = tmp_path_factory.mktemp("probes")

    def make(*overrides: str, count: int = 400, cache: Path | None = None) -> dict[str, ProbeTask]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BERTEXP_CACHE", str(cache or folder))
            config = experiment_config(*overrides).dataset
            passages = Passages(prepare(config), config.name, config.language)
            return {made.name: made for made in prepare_tasks(PROBES.names(), passages, count)}

    return make


def test_all_probes_of_pydoc_are_balanced_and_no_text_is_in_both_parts(asked: Asked) -> None:
    found = asked("dataset=pydoc")
    assert set(found) == {"package", "order", "word", "length"}
    for task in found.values():
        assert len(set(task.texts)) == len(task.texts) <= 400
        for part in (task.labels[: task.fitted], task.labels[task.fitted :]):
            counts = Counter(part.tolist())
            assert len(counts) == len(task.classes)
            assert len(set(counts.values())) == 1


def test_a_package_is_that_of_its_modules(asked: Asked) -> None:
    task = asked("dataset=pydoc")["package"]
    assert {"asyncio", "pydoc_data"} <= set(task.classes)
    shown = [task.classes[label] for label in task.labels]
    about = [name for name, text in zip(shown, task.texts, strict=True) if "event loop" in text]
    assert Counter(about).most_common(1)[0][0] == "asyncio"


def test_one_of_the_two_words_is_in_every_sentence(asked: Asked) -> None:
    task = asked("dataset=pydoc")["word"]
    for text, label in zip(task.texts, task.labels, strict=True):
        there = [word for word in task.classes if word in text.lower()]
        assert task.classes[label] in there


def test_longer_sentences_are_of_higher_classes(asked: Asked) -> None:
    task = asked("dataset=pydoc")["length"]
    sizes = np.array([len(text.split()) for text in task.texts])
    ranges = [
        (sizes[task.labels == n].min(), sizes[task.labels == n].max())
        for n in range(len(task.classes))
    ]
    assert all(low[1] < high[0] for low, high in pairwise(ranges))


def test_half_of_the_pairs_are_swapped(asked: Asked, tmp_path: Path) -> None:
    # Each paragraph counts upwards: its first number says which sentence was written first.
    paragraphs = [
        f"The house number {n} stands here. Behind it lies the garden of {n}." for n in range(90)
    ]
    (tmp_path / "text.txt").write_text("\n\n".join(paragraphs))
    found = asked("dataset=text", f"dataset.files=[{tmp_path}/text.txt]", cache=tmp_path / "cache")
    task = found["order"]
    swapped = [text.startswith("Behind") for text in task.texts]
    assert [task.classes[label] == "swapped" for label in task.labels] == swapped
    assert sum(swapped) == len(swapped) / 2
    # A document of one paragraph is no class.
    assert "package" not in found


def test_tasks_depend_on_the_corpus_alone(asked: Asked, tmp_path: Path) -> None:
    first, again = asked("dataset=synthetic"), asked("dataset=synthetic", cache=tmp_path / "new")
    assert {n: q.fingerprint for n, q in first.items()} == {
        name: task.fingerprint for name, task in again.items()
    }
    other = asked("dataset=synthetic", "dataset.synthetic.words=32")
    assert other["word"].fingerprint != first["word"].fingerprint


def test_the_articles_of_wikitext_are_told_apart(asked: Asked, real_text: Path) -> None:
    task = asked("dataset=text", f"dataset.files=[{real_text}]")["package"]
    assert len(task.classes) == 8
    assert "Robert Boulter" not in task.classes  # a short one


def test_files_are_classes_where_they_are_texts_and_rows_of_a_table_are_not(
    asked: Asked, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [f"The long paragraph number {n} has words enough to count." for n in range(60)]
    for number, name in enumerate(("law", "news")):
        own = texts[number::2]
        (tmp_path / f"{name}.txt").write_text("\n\n".join(own))
        # Of thirty rows one is long.
        rows = [{"text": "\n".join(own)}, *({"text": text} for text in own)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def classes(ending: str) -> list[str] | None:
        files = f"dataset.files=[{tmp_path}/*.{ending}]"
        found = asked("dataset=text", files, cache=tmp_path / "cache")
        return found["package"].classes if "package" in found else None

    with caplog.at_level(logging.INFO):
        assert classes("txt") == ["law.txt", "news.txt"]
        assert classes("jsonl") is None
    assert "evaluation.probes=package: left out, as this corpus has not two" in caplog.text


def test_too_few_texts_make_no_question() -> None:
    few = [(f"text {n}", "ab"[n % 2]) for n in range(38)]
    assert choose(few, 400) == ([], [], [])
    texts, labels, classes = choose([*few, ("one more", "a"), ("two more", "b")], 400)
    assert (len(texts), labels[:4], classes) == (40, [0, 1, 0, 1], ["a", "b"])
