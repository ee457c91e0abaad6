"""Slices of the bank's loss: what they hold, and that they are the loss when put together."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from torch.nn.functional import cross_entropy

from bertexp.data.tokens.store import TokenStore
from bertexp.evaluation.bank import build_bank, evaluate
from bertexp.experiment import report
from bertexp.experiment.prepare import Data
from bertexp.objectives.batch import Batch
from bertexp.objectives.config import BankConfig
from bertexp.objectives.learner import Learner
from bertexp.objectives.slices import SLICES, frequency_classes

CPU = torch.device("cpu")
NAMES = {name for names in SLICES.values() for name in names}


def frequency(token: int, counts: Counter[int]) -> str:
    """Return the third of the training tokens in which a type begins, by counting them out."""
    before = sum(count for count in counts.values() if count > counts[token])
    total = sum(counts.values())
    return "frequent" if before < total / 3 else "medium" if before < 2 * total / 3 else "rare"


def directly(batch: Batch, place: int, token: int, data: Data, counts: Counter[int]) -> set[str]:
    """Return the slices of one prediction, from the words as they are written."""
    width = batch.input_ids_BL.shape[1]
    ids = batch.input_ids_BL.flatten().tolist()
    for position, label in zip(
        batch.targets["mlm"].positions_N.tolist(),
        batch.targets["mlm"].labels_N.tolist(),
        strict=True,
    ):
        ids[position] = label
    row, column = divmod(place, width)
    names = [data.tokenizer.tokens[index] for index in ids[row * width : (row + 1) * width]]
    written = [name for name in names if name != "[PAD]"]
    third = sum(column * 3 >= edge * len(written) for edge in (1, 2))
    is_piece = written[column].startswith("##") or written[column + 1].startswith("##")
    return {
        frequency(token, counts),
        ("start", "middle", "end")[third],
        "pieces" if is_piece else "words",
    }


def test_slices_are_what_a_direct_computation_gives(
    cut_words: Callable[..., Data], untrained: Callable[..., Any]
) -> None:
    data = cut_words("evaluation.max_examples=12")
    model = untrained(data).eval()
    counts = Counter(data.tokens["train"].tokens.tolist())
    by_rate = []
    for asked in data.bank.all_sets:
        losses = defaultdict(list)
        for batch in asked.batches:
            with torch.no_grad():
                output = model(batch.input_ids_BL, attention_mask=batch.attention_mask_BL)
            logits = output.logits.flatten(0, 1)[batch.targets["mlm"].positions_N]
            found = cross_entropy(logits, batch.targets["mlm"].labels_N, reduction="none")
            predictions = zip(
                batch.targets["mlm"].positions_N.tolist(),
                batch.targets["mlm"].labels_N.tolist(),
                strict=True,
            )
            for (place, token), loss in zip(predictions, found.tolist(), strict=True):
                for name in directly(batch, place, token, data, counts):
                    losses[name].append(loss)
        by_rate.append({name: np.mean(values) for name, values in losses.items()})
    assert by_rate[0].keys() == by_rate[1].keys() == NAMES
    expected = {f"eval/loss@{name}": np.mean([rate[name] for rate in by_rate]) for name in NAMES}
    metrics = evaluate(Learner(model, data.task.objectives), data.bank, CPU)
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    assert len({round(metrics[name], 3) for name in expected}) == len(expected)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60).filter(any))
def test_frequent_types_are_the_first_third_of_the_text(counts: list[int]) -> None:
    classes = frequency_classes(np.array(counts))
    named = Counter(dict(enumerate(counts)))
    found = [SLICES["frequency"][number] for number in classes]
    assert found == [
        frequency(token, named) if counts[token] else "rare" for token in range(len(counts))
    ]


def test_the_slices_do_not_depend_on_what_a_run_trains_with(
    cut_words: Callable[..., Data],
) -> None:
    first = cut_words()
    for overrides in (["seed=9"], ["masking.prob=0.6", "trainer.batch_size=5"]):
        second = cut_words(*overrides)
        assert second.bank.reference.fingerprints == first.bank.reference.fingerprints
        for one, other in zip(first.bank.all_sets, second.bank.all_sets, strict=True):
            assert one.documents.tolist() == other.documents.tolist()
            for way, numbers in one.slices.items():
                assert other.slices[way].tolist() == numbers.tolist()


def test_a_slice_without_tokens_is_left_out(
    prepared: Callable[..., Data], untrained: Callable[..., Any]
) -> None:
    whole_words = prepared()
    found = evaluate(
        Learner(untrained(whole_words), whole_words.task.objectives), whole_words.bank, CPU
    )
    assert "eval/loss@pieces" not in found
    assert found["eval/loss@words"] == pytest.approx(found["eval/loss"])
    pairs = prepared("task=nsp")
    found = evaluate(Learner(untrained(pairs), pairs.task.objectives), pairs.bank, CPU)
    assert not any(name.startswith("eval/loss@") for name in found)


def test_words_that_training_never_saw_are_rare(
    cut_words: Callable[..., Data], untrained: Callable[..., Any]
) -> None:
    data = cut_words()
    unknown = TokenStore(
        np.full(6, data.tokenizer.unk_id), np.array([0, 6]), np.arange(2), np.arange(2), "a test"
    )
    tokens = {"train": unknown, "validation": data.tokens["validation"]}
    config = BankConfig(mask_probs=[0.3], negatives=[], count_negatives="trained", max_examples=8)
    bank = build_bank(data.task.objectives, tokens, config)
    found = evaluate(Learner(untrained(data), data.task.objectives), bank, CPU)
    assert found["eval/loss@rare"] == pytest.approx(found["eval/loss"])
    assert "eval/loss@frequent" not in found


def test_the_report_shows_slices_below_the_table_in_80_columns(
    cut_words: Callable[..., Data],
) -> None:
    metrics = {"eval/loss": 12.345678, "eval/accuracy": 0.1, "eval/loss@0.15": 2.0}
    slices = {f"eval/loss@{name}": 10 + index / 7 for index, name in enumerate(sorted(NAMES))}
    (objective,) = cut_words("evaluation.max_examples=12").task.objectives
    details = objective.details(metrics | slices, {})
    lines = shown(report.results("after 10 steps", {"model": metrics | slices}, {}, details))
    assert max(map(len, lines)) <= 80
    for name, value in slices.items():
        short = name.removeprefix("eval/loss@")
        (line,) = [line for line in lines if f"{short} {value:.3f}" in line]
        assert line.startswith("eval/loss by ")
    assert len([line for line in lines if line.startswith("eval/loss")]) == 2 + len(SLICES)
    assert objective.details(metrics, {}) == []


def shown(content: Any) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=200).print(content)
    return [line.rstrip() for line in file.getvalue().splitlines()]
