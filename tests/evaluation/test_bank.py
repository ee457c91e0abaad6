"""The frozen bank: the same examples for every run, whatever it trains on."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bertexp.config import Config
from bertexp.data.tokens.store import TokenStore
from bertexp.evaluation.bank import Bank, build_bank, draw_samples, evaluate
from bertexp.experiment.prepare import Data
from bertexp.objectives.learner import Learner
from bertexp.objectives.pairs import calibration_error

CPU = torch.device("cpu")


def contents(bank: Bank) -> list[Any]:
    return [
        (
            *(one.objective, one.condition),
            *(batch.input_ids_BL.tolist(), batch.targets[one.objective].labels_N.tolist()),
        )
        for one in bank.all_sets
        for batch in one.batches
    ]


@pytest.mark.parametrize("task", ["mlm", "nsp", "mlm_nsp"])
@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=7"],
        ["masking.prob=0.5"],
        ["masking.replace.mask=0.1", "masking.replace.keep=0.8"],
        ["trainer.batch_size=3", "model=mini"],
    ],
    ids=" ".join,
)
def test_the_bank_does_not_depend_on_what_a_run_trains_with(
    prepared: Callable[..., Data], task: str, overrides: list[str]
) -> None:
    first, second = prepared(f"task={task}"), prepared(f"task={task}", *overrides)
    assert contents(first.bank) == contents(second.bank)
    assert first.bank.reference.fingerprints == second.bank.reference.fingerprints


def test_the_bank_changes_with_its_own_settings(prepared: Callable[..., Data]) -> None:
    settings = (
        *("evaluation.max_examples=24", "evaluation.max_examples=23"),
        *("evaluation.mask_probs=[0.15]", "evaluation.mask_probs=[0.2,0.4]"),
        *("task.max_length=64", "dataset.synthetic.documents=61"),
    )
    fingerprints = {prepared(setting).bank.reference.fingerprints["mlm"] for setting in settings}
    assert len(fingerprints) == len(settings)


def test_the_bank_is_all_masks_at_its_rates(prepared: Callable[..., Data]) -> None:
    data = prepared("evaluation.mask_probs=[0.1,0.6]", "evaluation.max_examples=null")
    mask, special = data.tokenizer.mask_id, data.tokenizer.is_special_V
    every = len(data.task.examples(data.tokens["validation"]))
    assert [one.condition for one in data.bank.all_sets] == [0.1, 0.6]
    for one in data.bank.all_sets:
        assert sum(len(batch.example_ids) for batch in one.batches) == every
        predicted = maskable = 0
        for batch in one.batches:
            seen = batch.input_ids_BL.flatten()
            assert (seen[batch.targets["mlm"].positions_N] == mask).all()
            assert (seen == mask).sum() == len(batch.targets["mlm"].positions_N)
            assert not special[batch.targets["mlm"].labels_N].any()
            predicted += len(batch.targets["mlm"].labels_N)
            maskable += batch.maskable
        assert maskable == len(data.tokens["validation"].tokens)
        assert stats.binomtest(predicted, maskable, one.condition).pvalue > 1e-9


def test_masked_tokens_are_the_same_whatever_else_a_task_does(
    prepared: Callable[..., Data],
) -> None:
    alone, joint = prepared().bank, prepared("task=mlm_nsp").bank
    assert alone.reference.fingerprints["mlm"] == joint.reference.fingerprints["mlm"]
    assert (
        joint.reference.fingerprints["nsp"]
        == prepared("task=nsp", "task.segments=fill").bank.reference.fingerprints["nsp"]
    )


def test_half_of_the_pairs_are_of_each_kind_of_negatives(
    prepared: Callable[..., Data],
) -> None:
    for negatives in ("swap", "any_sentence"):
        bank = prepared("task=nsp", f"task.negatives={negatives}").bank
        sets = {one.condition: one for one in bank.all_sets}
        assert sets.keys() == {negatives, "other_document", "same_document", "swap"}
        assert {kind for kind, one in sets.items() if one.weight} == {negatives}
        for one in sets.values():
            labels = one.labels.tolist()
            assert labels.count(0) == labels.count(1) == 12
    # All kinds can count alike, whatever a model is trained on.
    every = [prepared("task=nsp", f"task.negatives={n}", "evaluation.count_negatives=all").bank
             for n in ("swap", "any_sentence")]  # fmt: skip
    assert every[0].reference.fingerprints["nsp"] == every[1].reference.fingerprints["nsp"]
    assert [one.weight for one in every[1].all_sets] == [0.0, *[pytest.approx(1 / 3)] * 3]
    # What a model was trained on changes what its overall accuracy means, and nothing else.
    first = prepared("task=nsp").bank.reference.fingerprints
    second = prepared("task=nsp", "task.negatives=swap").bank.reference.fingerprints
    assert first["nsp"] != second["nsp"]
    assert first["nsp@same_document"] == second["nsp@same_document"]


def test_a_single_document_has_no_negatives_from_others(
    prepared: Callable[..., Data], experiment_config: Callable[..., Config]
) -> None:
    data = prepared("task=nsp", "task.negatives=same_document")
    store = data.tokens["validation"]
    alone = replace(store, document_offsets=store.document_offsets[[0, -1]])
    tokens = {"train": data.tokens["train"], "validation": alone}
    bank = build_bank(data.task.objectives, tokens, experiment_config().evaluation)
    assert [one.condition for one in bank.all_sets] == ["same_document", "swap"]


CONFIDENCES = st.lists(st.tuples(st.floats(0.5, 1), st.booleans()), min_size=1, max_size=60)


@given(answers=CONFIDENCES)
def test_calibration_error_is_guos_formula(answers: list[tuple[float, bool]]) -> None:
    """Equation 3 of Guo et al. 2017, bin by bin: sum over |B| / n * |acc(B) - conf(B)|."""
    expected = 0.0
    for number in range(10):
        low, high = 0.5 + number / 20, 0.5 + (number + 1) / 20
        inside = [a for a in answers if low <= a[0] < high or (a[0] == 1 and number == 9)]
        if inside:
            confidence, accuracy = (np.mean([a[part] for a in inside]) for part in (0, 1))
            expected += len(inside) / len(answers) * abs(accuracy - confidence)
    confidences, hits = (np.array([a[part] for a in answers], dtype=float) for part in (0, 1))
    found = calibration_error(confidences, hits, np.ones(len(answers)))
    # A confidence at the very border of two bins may fall into either.
    edges = np.abs(confidences * 20 - np.round(confidences * 20)) < 1e-9
    if not (edges & (confidences < 1) & (confidences > 0.5)).any():
        assert found == pytest.approx(expected)


def test_the_yardstick_is_the_entropy_of_the_labels(prepared: Callable[..., Data]) -> None:
    data = prepared()
    entropies, commonest = [], []
    for one in data.bank.all_sets:
        counts = np.bincount(
            np.concatenate([batch.targets["mlm"].labels_N for batch in one.batches])
        )
        entropies.append(stats.entropy(counts))
        commonest.append(counts.max() / counts.sum())
    expected = {"eval/loss": np.mean(entropies), "eval/accuracy": np.mean(commonest)}
    assert data.bank.reference.yardsticks == pytest.approx(expected)
    expected = {"eval/nsp_loss": math.log(2), "eval/nsp_accuracy": 0.5}
    assert prepared("task=nsp").bank.reference.yardsticks == pytest.approx(expected)


def test_samples_are_true_to_the_bank(
    prepared: Callable[..., Data], untrained: Callable[..., Any]
) -> None:
    data = prepared()
    model = untrained(data)
    samples = draw_samples(Learner(model, data.task.objectives), data.bank, CPU)
    assert samples
    text = " ".join(p for d in data.corpus.documents("validation") for p in d.paragraphs)
    words = data.tokenizer.join(data.tokenizer.encode([text])[0])
    for sample in samples:
        assert sample.text.count("[MASK]") == len(sample.guesses) > 0
        assert not sample.text.endswith("[SEP]")
        shown = sample.text
        for guess in sample.guesses:
            shown = shown.replace("[MASK]", guess.truth, 1)
        shown = re.sub(r"\[(CLS|SEP|PAD)\]", "", shown).replace(" ##", "")
        assert shown.strip().removeprefix("##") in words


def test_text_that_is_all_unknown_does_not_end_a_run(
    experiment_config: Callable[..., Config],
    prepared: Callable[..., Data],
    untrained: Callable[..., Any],
) -> None:
    """A validation document of symbols that the vocabulary lacks has nothing to predict."""
    data = prepared()
    model = untrained(data)
    unknown, word = data.tokenizer.unk_id, len(data.tokenizer.is_special_V) - 1
    offsets = np.array([0, 3, 6, 9])
    texts = TokenStore(
        np.array([unknown] * 3 + [word] * 3 + [unknown] * 3, dtype=np.uint16),
        *(offsets, np.arange(4), np.arange(4)),
        "made for a test",
    )
    tokens = {"train": data.tokens["train"], "validation": texts}
    bank = build_bank(data.task.objectives, tokens, experiment_config().evaluation)
    metrics = evaluate(Learner(model, data.task.objectives), bank, CPU)
    assert all(math.isfinite(value) for value in metrics.values())
    samples = draw_samples(Learner(model, data.task.objectives), bank, CPU)
    assert all(sample.guesses for sample in samples)
