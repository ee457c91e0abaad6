"""Masked diffusion: its loss against the formula, its bound against an entropy that is known."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from bertexp.config import Config
from bertexp.data.config import SyntheticKeys
from bertexp.data.corpora.synthetic import HIDDEN, Language
from bertexp.evaluation.elbo import Elbo
from bertexp.experiment.prepare import Data
from bertexp.objectives.learner import Learner
from bertexp.validation import UserError

SMALL = ("task=diffusion", "evaluation.evaluators=[elbo]")


@pytest.mark.parametrize("weighting", ["elbo", "none"])
def test_its_loss_is_that_of_the_papers(
    prepared: Callable[..., Data], small_model: Callable[..., Any], weighting: str
) -> None:
    """Equation 3 of LLaDA, token by token, from the logits of transformers' own model."""
    data = prepared(*SMALL, f"task.diffusion.weighting={weighting}")
    model, chosen = small_model("BertForMaskedLM"), np.arange(12)
    batch = data.examples.batch(1, chosen)
    learner = Learner(model, data.task.objectives)
    loss = learner(batch)["diffusion"] / batch.predictions["diffusion"]
    loss.backward()
    gradient = model.get_input_embeddings().weight.grad.clone()
    model.zero_grad()

    written = data.examples.written(1, chosen)
    masker = data.examples.masker
    rates_B = masker.mask(written.input_ids_BL.numpy(), chosen, 1).rates_B
    assert len({*rates_B.tolist()}) == 12
    logits_BLV = model(batch.input_ids_BL, attention_mask=batch.attention_mask_BL).logits
    total, tokens, predicted = torch.zeros(()), 0, 0
    mask_id, special_V = data.tokenizer.mask_id, data.tokenizer.is_special_V
    for row, rate in enumerate(rates_B.tolist()):
        ids_L, seen_L = written.input_ids_BL[row], batch.input_ids_BL[row]
        changed = (seen_L != ids_L).nonzero().flatten()
        assert (seen_L[changed] == mask_id).all()
        nats = functional.cross_entropy(logits_BLV[row, changed], ids_L[changed], reduction="sum")
        total = total + (nats / rate if weighting == "elbo" else nats)
        tokens += int((~special_V[ids_L.numpy()]).sum())
        predicted += len(changed)
    expected = total / (tokens if weighting == "elbo" else predicted)
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        gradient, model.get_input_embeddings().weight.grad, atol=1e-5, rtol=1e-4
    )


def entropy(language: Language, words_BL: np.ndarray) -> float:
    """Return the mean negative log likelihood a word, by the forward algorithm, word by word."""
    totals = []
    for row in words_BL:
        by_topic = []
        for first_W, next_WW in zip(language.stationary_TW, language.transitions_TWW, strict=True):
            nats = -np.log(first_W[row[0]])
            for before, after in pairwise(row):
                nats -= np.log(next_WW[before, after])
            by_topic.append(nats)
        totals.append(-np.logaddexp.reduce(-np.array(by_topic)) + np.log(len(by_topic)))
    return float(np.sum(totals) / words_BL.size)


def test_the_bound_of_a_perfect_model_is_the_entropy(prepared: Callable[..., Data]) -> None:
    """A model that knows the language, in place of one that was trained on it."""
    data = prepared(*SMALL, "evaluation.max_examples=null", "dataset.synthetic.documents=1000")
    language = Language.of(SyntheticKeys(documents=1000))
    tokenizer = data.tokenizer
    words_V = np.full(tokenizer.vocab_size, HIDDEN)
    ids_W = np.array([ids[0] for ids in tokenizer.encode(language.words)])
    words_V[ids_W] = np.arange(len(ids_W))

    def masked_logits(batch: Any) -> torch.Tensor:
        log_probs_BLW = language.log_probs(words_V[batch.input_ids_BL.numpy()][:, 1:])
        logits_BLV = np.full((*batch.input_ids_BL.shape, tokenizer.vocab_size), -1e9)
        logits_BLV[:, 1:, ids_W] = np.maximum(log_probs_BLW, -1e9)
        flat = torch.from_numpy(logits_BLV).flatten(0, 1)
        return flat[batch.targets["eval/elbo"].positions_N]

    perfect: Any = SimpleNamespace(eval=lambda: None, masked_logits=masked_logits)
    (elbo,) = (each for each in data.evaluators if isinstance(each, Elbo))
    ((_, found),) = elbo.measure(perfect, torch.device("cpu"))
    rows = [
        words_V[row[words_V[row] != HIDDEN]]
        for batches in elbo.batches
        for batch in batches
        for row in _written(batch)
    ]
    expected = np.mean([entropy(language, row[None]) for row in rows])
    assert found == pytest.approx(expected, rel=0.02)


def _written(batch: Any) -> np.ndarray:
    ids_BL = batch.input_ids_BL.clone()
    target = batch.targets["eval/elbo"]
    ids_BL.view(-1)[target.positions_N] = target.labels_N
    return ids_BL.numpy()


def test_it_is_evaluated_on_the_bank_of_masked_language_modelling(
    prepared: Callable[..., Data],
) -> None:
    banks = [prepared(task).bank.reference.fingerprints for task in ("task=diffusion", "task=mlm")]
    assert banks[0]["diffusion"] == banks[1]["mlm"]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("masking=bert", r"masking.replace.mask=0.8: must be 1 for task=diffusion"),
        ("masking.corrupt_prob=0.1", r"masking.corrupt_prob=0.1: must be null for task=diffusion"),
        ("masking.at_least_one=true", r"masking.at_least_one=true: must be false with task.diffus"),
    ],
)
def test_it_masks_and_nothing_else(prepared: Callable[..., Data], override: str, line: str) -> None:
    with pytest.raises(UserError, match=line):
        prepared("task=diffusion", override)


def test_any_rate_is_its_own(experiment_config: Callable[..., Config]) -> None:
    masking = experiment_config("task=diffusion").masking
    assert masking.drawn == experiment_config("masking=diffusion").masking.drawn
    assert experiment_config("task=diffusion", "masking.prob=0.4").masking.drawn == 0.4
