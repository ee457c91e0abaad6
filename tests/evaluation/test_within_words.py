"""The score of Kauf and Ivanova (2023), against the numbers of another tool."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertForMaskedLM

from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.evaluation.pseudo_perplexity import pseudo_likelihood
from bertexp.evaluation.scoring import encode, log_likelihoods, place
from bertexp.objectives.learner import Learner

CPU = torch.device("cpu")
VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "cat",
    "##s",
    "sat",
    "on",
    "a",
    "##n",
    "ban",
    "##an",
    "##a",
    "##k",
    "!",
    ".",
]
# By minicons 0.3.39, MaskedLMScorer(model, "cpu", tokenizer).token_score(texts, PLL_metric=...), of
# the model below: the tokens of each text with "original" and with "within_word_l2r".
TEXTS = {
    "the cats sat on a banana .": (
        "-0.39927 -9.95836 -5.25765 -5.59278 -5.24956 -2.42626 -5.45923 -5.27732 -8.7289 -3.41822",
        "-0.39927 -9.50329 -5.25765 -5.59278 -5.24956 -2.42626 -4.73892 -4.98456 -8.7289 -3.41822",
    ),
    "a banank sat !": (
        "-3.09914 -4.83553 -2.81326 -9.57164 -4.93148 -1.39076",
        "-3.09914 -6.08561 -2.75464 -9.57164 -4.93148 -1.39076",
    ),
    "the cat sat": ("-1.35745 -10.89362 -8.11285", "-1.35745 -10.89362 -8.11285"),
}
ORIGINAL, WITHIN_WORDS = (
    [[*map(float, scores[kind].split())] for scores in TEXTS.values()] for kind in (0, 1)
)


@pytest.fixture(scope="module")
def learner() -> Learner:
    """A model whose weights are a formula."""
    config = BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=32,
    )  # fmt: skip
    model = BertForMaskedLM(config)
    with torch.no_grad():
        for number, (_, weight) in enumerate(sorted(model.named_parameters())):
            if weight.ndim == 2:
                at = torch.arange(weight.numel(), dtype=torch.float64)
                weight.copy_(torch.sin(at * at * 0.37 + number).reshape(weight.shape))
    return Learner(model, ())


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    vocabulary = {token: index for index, token in enumerate(VOCABULARY)}
    return Tokenizer(BertWordPieceTokenizer(vocabulary)._tokenizer)


def test_scores_are_those_of_minicons(learner: Learner, tokenizer: Tokenizer) -> None:
    places = place(tokenizer, encode(tokenizer, [*TEXTS]), 32)
    found_N = log_likelihoods(learner, tokenizer, places, CPU)
    np.testing.assert_allclose(found_N, np.concatenate(WITHIN_WORDS), atol=2e-5)
    assert np.bincount(places.text_N).tolist() == [*map(len, WITHIN_WORDS)]


def test_pseudo_likelihoods_are_those_of_minicons(learner: Learner, tokenizer: Tokenizer) -> None:
    texts = [np.array(ids) for ids in tokenizer.encode([*TEXTS])]
    found = pseudo_likelihood(learner, tokenizer, texts, 32, CPU).log_likelihoods
    for scores, expected in zip(found, ORIGINAL, strict=True):
        np.testing.assert_allclose(scores, expected, atol=2e-5)
