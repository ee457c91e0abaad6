"""Pseudo-perplexity, against a loop over the positions with transformers' own model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bertexp.evaluation import scoring
from bertexp.evaluation.pseudo_perplexity import choose_paragraphs, pseudo_likelihood
from bertexp.experiment.prepare import Data
from bertexp.objectives.learner import Learner

CPU = torch.device("cpu")
LENGTH = 40


def one_by_one(model: Any, data: Data, text: np.ndarray) -> list[float]:
    """Mask one position after the other of one text, and let the whole model run on each."""
    tokenizer = data.tokenizer
    ids = [tokenizer.opening_id, *text.tolist()[: LENGTH - 2], tokenizer.closing_id]
    found = []
    for place in range(1, len(ids) - 1):
        seen = torch.tensor([[*ids[:place], tokenizer.mask_id, *ids[place + 1 :]]])
        with torch.no_grad():
            output = model(seen)
        # With a head for pairs too the model calls them by another name.
        logits = output.logits if hasattr(output, "logits") else output.prediction_logits
        found.append(logits[0, place].log_softmax(-1)[ids[place]].item())
    return found


@pytest.mark.parametrize("model_class", ["BertForMaskedLM", "BertForPreTraining"])
def test_it_is_that_of_a_loop_over_the_positions_however_texts_are_batched(
    model_class: str, cut_words: Callable[..., Data], untrained: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    data = cut_words()
    texts = choose_paragraphs(data.tokens["validation"], 4)
    texts = [texts[0][:1], texts[1][:7], *texts[2:], texts[0]]
    assert any(len(text) > LENGTH for text in texts), "one has to be cut"
    model = untrained(data, model_class).eval()
    expected = [one_by_one(model, data, text) for text in texts]
    model.train()  # the dropout has to be switched off
    found = pseudo_likelihood(Learner(model, ()), data.tokenizer, texts, LENGTH, CPU)
    monkeypatch.setattr(scoring, "BATCH_TOKENS", 1)
    again = pseudo_likelihood(Learner(model, ()), data.tokenizer, texts[::-1], LENGTH, CPU)
    tokens = [score for scores in expected for score in scores]
    for scored, direct in ((found, expected), (again, expected[::-1])):
        assert [*map(list, scored.log_likelihoods)] == [pytest.approx(e, abs=1e-5) for e in direct]
        assert scored.perplexity == pytest.approx(math.exp(-sum(tokens) / len(tokens)), rel=1e-5)


def test_unknown_words_are_read_but_do_not_count_and_an_empty_text_has_no_scores(
    cut_words: Callable[..., Data], untrained: Callable[..., Any]
) -> None:
    data = cut_words()
    word, unknown = len(data.tokenizer.tokens) - 1, data.tokenizer.unk_id
    text = np.array([word, unknown, word])
    model = untrained(data)
    found = pseudo_likelihood(Learner(model, ()), data.tokenizer, [text], LENGTH, CPU)
    (scores,) = found.log_likelihoods
    assert scores.tolist() == pytest.approx(one_by_one(model, data, text), abs=1e-5)
    assert found.perplexity == pytest.approx(math.exp(-(scores[0] + scores[2]) / 2))
    nothing = pseudo_likelihood(Learner(model, ()), data.tokenizer, [text[1:2]], LENGTH, CPU)
    assert nothing.perplexity is None
    empty = text[:0]
    none = pseudo_likelihood(Learner(model, ()), data.tokenizer, [], LENGTH, CPU)
    assert (none.log_likelihoods, none.perplexity) == ([], None)
    for texts in ([empty], [empty, text[:1], empty]):
        scored = pseudo_likelihood(Learner(model, ()), data.tokenizer, texts, LENGTH, CPU)
        assert [*map(len, scored.log_likelihoods)] == [*map(len, texts)]


def test_the_texts_are_the_same_for_every_run_and_task(cut_words: Callable[..., Data]) -> None:
    def chosen(count: int, *overrides: str) -> list[list[int]]:
        store = cut_words(*overrides).tokens["validation"]
        return [text.tolist() for text in choose_paragraphs(store, count)]

    ten = chosen(10)
    assert len(ten) == 10
    assert chosen(4) == ten[:4]
    assert chosen(10, "seed=5", "masking.prob=0.5") == ten
    # Paragraphs, where the store is cut into sentences too.
    assert chosen(10, "task=nsp") == ten
    everything = chosen(10**6)
    assert sum(map(len, everything)) == len(cut_words().tokens["validation"].tokens)
