"""Shortcuts: where a corpus has one it is found, and where it has none nothing is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from bertexp.config import Config
from bertexp.data.tokens.store import TokenStore
from bertexp.evaluation.bank import build_bank
from bertexp.experiment import report
from bertexp.experiment.prepare import Data

KINDS = ("other_document", "same_document", "swap")
# Of 200 pairs, five standard errors.
CHANCE = 0.18


def corpus(sentence: Callable[[int, int], list[int]], documents: int) -> TokenStore:
    """Return documents of eight paragraphs of five sentences, each made from its numbers."""
    sentences = [sentence(document, place) for document in range(documents) for place in range(40)]
    starts = np.arange(len(sentences) + 1)
    return TokenStore(
        np.concatenate(sentences),
        np.cumsum([0, *map(len, sentences)]),
        *(starts[::5], starts[: 8 * documents + 1 : 8]),
        "made for a test",
    )


@pytest.fixture
def shortcuts(
    prepared: Callable[..., Data], experiment_config: Callable[..., Config]
) -> Callable[..., dict[str, float]]:
    objectives = prepared("task=nsp").task.objectives
    config = experiment_config("evaluation.max_examples=200").evaluation

    def find(sentence: Callable[[int, int], list[int]]) -> dict[str, float]:
        tokens = {name: corpus(sentence, n) for name, n in (("train", 60), ("validation", 40))}
        return {
            name.removeprefix("eval/nsp_shortcut"): value
            for one in build_bank(objectives, tokens, config).all_sets
            for name, value in one.baselines.items()
        }

    return find


@pytest.fixture
def words() -> Iterator[np.random.Generator]:
    yield np.random.default_rng(0)


def test_words_that_only_one_document_has_give_other_documents_away(
    shortcuts: Callable[..., Any], words: np.random.Generator
) -> None:
    found = shortcuts(lambda document, place: words.integers(6, 12, 8) + 6 * (document % 30))
    assert found["_overlap@other_document"] > 0.9
    assert found["@other_document"] > 0.9
    assert found["_length@other_document"] == pytest.approx(0.5, abs=CHANCE)
    for kind in ("same_document", "swap"):
        assert found[f"_overlap@{kind}"] == pytest.approx(0.5, abs=CHANCE)


def test_documents_of_long_and_of_short_sentences_are_told_by_length(
    shortcuts: Callable[..., Any], words: np.random.Generator
) -> None:
    found = shortcuts(lambda document, place: words.integers(6, 200, 3 + 12 * (document % 2)))
    # Half of the negatives are of the same length: three in four answers can be right.
    assert found["_length@other_document"] > 0.66
    assert found["_length@swap"] == pytest.approx(0.5, abs=CHANCE)


def test_two_sentences_in_a_row_are_told_by_their_places(
    shortcuts: Callable[..., Any], words: np.random.Generator
) -> None:
    found = shortcuts(lambda document, place: words.integers(6, 200, 6))
    assert found["_position@swap"] == 1.0
    for kind in KINDS:
        for feature in ("length", "overlap"):
            assert found[f"_{feature}@{kind}"] == pytest.approx(0.5, abs=CHANCE)


def test_the_report_shows_them_beside_the_model_in_80_columns(
    prepared: Callable[..., Data],
) -> None:
    data = prepared("task=nsp", "task.negatives=any_sentence_or_next")
    (objective,), bank = data.task.objectives, data.bank
    losses = {f"eval/nsp_loss@{asked.name}": 0.693 for asked in bank.all_sets}
    accuracies = {f"eval/nsp_accuracy@{asked.name}": 0.71828 for asked in bank.all_sets}
    answered = dict.fromkeys([*accuracies, "eval/nsp_accuracy"], 160)
    accuracies = dict.fromkeys(accuracies, 0.625)
    metrics = {"eval/nsp_loss": 0.693, "eval/nsp_accuracy": 0.625} | losses | accuracies
    shortcuts = {name: value for one in bank.all_sets for name, value in one.baselines.items()}
    metrics |= shortcuts
    console = Console(width=80)
    with console.capture() as capture:
        details = objective.details(metrics, answered)
        console.print(report.results("after 9 steps", {"model": metrics}, answered, details))
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= 80
    # 100 and 80 of 160 right, by Wilson's formula.
    assert "eval/nsp_accuracy, by its examples: 95% 0.548 to 0.696 (160)" in lines
    assert "Of 160 pairs each: an accuracy is known to ± 0.077 (95%)." in " ".join(lines)
    for asked in bank.all_sets:
        (line,) = [line for line in lines if line.startswith(f"{asked.name} ")]
        values = [shortcuts[f"eval/nsp_shortcut{name}@{asked.name}"]
                  for name in ("_length", "_overlap", "_position", "")]  # fmt: skip
        assert line.split()[1:] == ["0.693", "0.625", *(f"{value:.3f}" for value in values)]
