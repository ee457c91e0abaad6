"""The frozen bank: the same questions for every run, metrics as anybody else computes them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn.functional import cross_entropy

from bertexp.config import Config
from bertexp.data import Data
from bertexp.evaluation.bank import Bank, evaluate
from bertexp.evaluation.samples import draw_samples
from bertexp.models.build import build_model
from bertexp.models.objective import Objective

CPU = torch.device("cpu")


def questions(bank: Bank) -> list[Any]:
    found: list[Any] = []
    for rate, batches in bank.batches.items():
        for batch in batches:
            labels = [batch.labels(name).tolist() for name in batch.predictions]
            found.append([rate, batch.input_ids_BL.tolist(), labels])
    return found


@pytest.mark.parametrize("task", ["mlm", "nsp"])
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
    assert questions(first.bank) == questions(second.bank)
    assert first.bank.fingerprint == second.bank.fingerprint


def test_the_bank_changes_with_its_own_settings(prepared: Callable[..., Data]) -> None:
    settings = (
        *("evaluation.max_examples=24", "evaluation.max_examples=23"),
        *("evaluation.mask_probs=[0.15]", "evaluation.mask_probs=[0.2,0.4]"),
        *("task.max_length=64", "dataset.synthetic.documents=61"),
    )
    assert len({prepared(setting).bank.fingerprint for setting in settings}) == len(settings)


def test_the_bank_is_all_masks_at_its_rates(prepared: Callable[..., Data]) -> None:
    data = prepared("evaluation.mask_probs=[0.1,0.6]", "evaluation.max_examples=null")
    mask, special = data.tokenizer.mask_id, data.tokenizer.is_special_V
    assert data.bank.examples == len(data.task.examples(
        data.tokens["validation"], _masking(data), 0))  # fmt: skip
    for rate, batches in data.bank.batches.items():
        predicted = maskable = 0
        for batch in batches:
            seen = batch.input_ids_BL.flatten()
            assert (seen[batch.positions_N] == mask).all()
            assert (seen == mask).sum() == len(batch.positions_N)
            assert not special[batch.labels_N].any()
            predicted += len(batch.labels_N)
            maskable += batch.maskable
        assert maskable == len(data.tokens["validation"].tokens)
        assert stats.binomtest(predicted, maskable, rate).pvalue > 1e-9


def _masking(data: Data) -> Any:
    from bertexp.masking.config import MaskingConfig, ReplaceConfig

    return MaskingConfig(
        prob=0.5, strategy="token", replace=ReplaceConfig(mask=1, random=0, keep=0)
    )


@pytest.fixture(scope="module")
def model_for(
    experiment_config: Callable[..., Config], prepared: Callable[..., Data]
) -> Callable[..., Any]:
    def build(task: str) -> tuple[Any, Data]:
        data = prepared(f"task={task}")
        sizes = ("model.hidden_size=32", "model.intermediate_size=64", "model.dropout=0.5")
        config = experiment_config(*sizes)
        return build_model(config.model, data.task.model_class, data.tokenizer, 128, 0), data

    return build


def test_masked_metrics_are_what_transformers_model_gives(model_for: Callable[..., Any]) -> None:
    model, data = model_for("mlm")
    metrics = evaluate(Objective(model), data.bank, CPU)
    losses, accuracies = {}, []
    with torch.no_grad():
        for rate, batches in data.bank.batches.items():
            logits, labels = [], []
            for batch in batches:
                output = model(batch.input_ids_BL, attention_mask=batch.attention_mask_BL)
                logits.append(output.logits.flatten(0, 1)[batch.positions_N])
                labels.append(batch.labels_N)
            losses[rate] = cross_entropy(torch.cat(logits), torch.cat(labels)).item()
            right = torch.cat(logits).argmax(-1) == torch.cat(labels)
            accuracies.append(right.float().mean().item())
    loss = np.mean(list(losses.values()))
    expected = {
        "eval/loss": loss,
        "eval/loss@0.15": losses[0.15],
        "eval/loss@0.4": losses[0.4],
        "eval/accuracy": np.mean(accuracies),
        "eval/perplexity": math.exp(loss),
    }
    assert metrics == pytest.approx(expected, abs=1e-4, rel=1e-5)
    assert not model.training, "dropout would change the metrics from one time to the next"


def test_pair_metrics_are_what_transformers_model_gives(model_for: Callable[..., Any]) -> None:
    model, data = model_for("nsp")
    metrics = evaluate(Objective(model), data.bank, CPU)
    logits, labels = [], []
    with torch.no_grad():
        for batch in data.bank.batches[None]:
            output = model(
                batch.input_ids_BL,
                attention_mask=batch.attention_mask_BL,
                token_type_ids=batch.token_type_ids_BL,
            )
            logits.append(output.logits)
            labels.append(batch.next_labels_B)
    loss = cross_entropy(torch.cat(logits), torch.cat(labels)).item()
    right = torch.cat(logits).argmax(-1) == torch.cat(labels)
    expected = {
        "eval/loss": loss,
        "eval/nsp_loss": loss,
        "eval/nsp_accuracy": right.float().mean().item(),
    }
    assert metrics == pytest.approx(expected, abs=1e-5)


def test_the_yardstick_is_the_entropy_of_the_labels(prepared: Callable[..., Data]) -> None:
    data = prepared()
    entropies, commonest = [], []
    for batches in data.bank.batches.values():
        counts = np.bincount(np.concatenate([batch.labels_N for batch in batches]))
        entropies.append(stats.entropy(counts))
        commonest.append(counts.max() / counts.sum())
    expected = {"eval/loss": np.mean(entropies), "eval/accuracy": np.mean(commonest)}
    assert data.bank.yardsticks == pytest.approx(expected)
    pairs = prepared("task=nsp").bank
    labels = np.concatenate([batch.next_labels_B for batch in pairs.batches[None]])
    shares = np.bincount(labels) / len(labels)
    expected = {"eval/nsp_loss": stats.entropy(shares), "eval/nsp_accuracy": shares.max()}
    assert pairs.yardsticks == pytest.approx(expected)


def test_samples_are_true_to_the_bank(model_for: Callable[..., Any]) -> None:
    model, data = model_for("mlm")
    samples = draw_samples(Objective(model), data.bank, data.tokenizer, CPU)
    assert samples
    text = " ".join(p for d in data.corpus.documents("validation") for p in d.paragraphs)
    words = data.tokenizer.backend.encode(text, add_special_tokens=False).tokens
    for sample in samples:
        assert sample.tokens.count("[MASK]") == len(sample.guesses) > 0
        truths = iter(guess.truth for guess in sample.guesses)
        shown = [next(truths) if token == "[MASK]" else token for token in sample.tokens]
        inside = [token for token in shown if token not in ("[CLS]", "[SEP]", "[PAD]")]
        places = range(len(words) - len(inside) + 1)
        assert any(words[at : at + len(inside)] == inside for at in places)


def test_text_that_is_all_unknown_does_not_end_a_run(
    experiment_config: Callable[..., Config], model_for: Callable[..., Any]
) -> None:
    """A validation document of symbols that the vocabulary lacks has nothing to predict."""
    from bertexp.evaluation.bank import build_bank
    from bertexp.tokens.store import TokenStore

    model, data = model_for("mlm")
    unknown, word = data.tokenizer.unk_id, len(data.tokenizer.is_special_V) - 1
    offsets = np.array([0, 3, 6, 9])
    texts = TokenStore(
        np.array([unknown] * 3 + [word] * 3 + [unknown] * 3, dtype=np.uint16),
        *(offsets, np.arange(4), np.arange(4)),
        "made for a test",
    )
    bank = build_bank(data.task, texts, experiment_config().evaluation)
    metrics = evaluate(Objective(model), bank, CPU)
    assert all(math.isfinite(value) for value in metrics.values())
    samples = draw_samples(Objective(model), bank, data.tokenizer, CPU)
    assert all(sample.guesses for sample in samples)
