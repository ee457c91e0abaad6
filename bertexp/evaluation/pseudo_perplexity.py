"""Pseudo-perplexity (Salazar et al. 2020, "Masked language model scoring", section 2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from bertexp import draws, metrics
from bertexp.arrays import ranges
from bertexp.data.cache import fingerprint
from bertexp.data.tokens.store import TokenStore
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.evaluation import EVALUATORS
from bertexp.evaluation.evaluator import Evaluator, Source
from bertexp.evaluation.scoring import Places, log_likelihoods
from bertexp.evaluation.sizing import choose_in_proportion
from bertexp.objectives.base import BANK_SEED, Reference
from bertexp.objectives.learner import Learner
from bertexp.objectives.mlm import perplexity

NAME = "eval/pseudo_perplexity"
metrics.register(
    NAME,
    replace(metrics.PERPLEXITY, meaning="each token predicted from all the others"),
)


@dataclass(frozen=True)
class PseudoLikelihood:
    """The likelihood of texts under a masked model, one token at a time.

    Attributes:
        log_likelihoods: of each text, log p(w_t | all others) in nats for each of its tokens w_t;
            a truncated text has fewer of them than tokens.
        perplexity: the exponential of minus their mean over the tokens of all texts, except tokens
            that no model learns to predict (the unknown token); None if there are no others.
    """

    log_likelihoods: list[np.ndarray]
    perplexity: float | None


@EVALUATORS.register("pseudo_perplexity", reads=("evaluation.pseudo_perplexity",))
class PseudoPerplexity(Evaluator):
    """``eval/pseudo_perplexity``, of some paragraphs of the validation text."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        tokens = source.tokens["validation"]
        self.texts = choose_in_proportion(
            source,
            share=0.01,
            choose=lambda count: choose_paragraphs(tokens, count),
            length=lambda text: min(len(text), source.max_length),
        )
        if self.texts:
            found = fingerprint([text.tolist() for text in self.texts])
            self.reference = Reference(fingerprints={NAME: found})

    @property
    def scored(self) -> str:
        return f"{len(self.texts)} for {NAME}" if self.texts else ""

    def measure(self, learner: Learner, device: torch.device) -> Iterator[tuple[str, float]]:
        tokenizer, length = self.source.tokenizer, self.source.max_length
        scored = pseudo_likelihood(learner, tokenizer, self.texts, length, device)
        if scored.perplexity is not None:
            yield NAME, scored.perplexity

    def summary(self) -> dict[str, Any]:
        return {"pseudo_perplexity": {"texts": len(self.texts)}} if self.texts else {}


def pseudo_likelihood(
    learner: Learner,
    tokenizer: Tokenizer,
    texts: Sequence[np.ndarray],
    max_length: int,
    device: torch.device,
) -> PseudoLikelihood:
    """Score ``texts`` exactly: a forward pass for each token, in which only it is masked.

    Args:
        learner: a model with a head for masked tokens; left in evaluation mode.
        texts: the ids of each, without special tokens.
        max_length: the length to truncate a text with its special tokens to; a model has no
            positions beyond those it was trained with.
    """
    texts = [text[: max_length - tokenizer.special_in_sequence] for text in texts]
    sizes_T = np.array([len(text) for text in texts], dtype=np.int64)
    row_N = np.repeat(np.arange(len(texts)), sizes_T)
    column_N = 1 + ranges(sizes_T)
    rows = [tokenizer.sequence(text) for text in texts]
    places = Places(rows, row_N, column_N, column_N + 1, text_N=row_N)
    found_N = log_likelihoods(learner, tokenizer, places, device)
    counted_N = found_N[~tokenizer.is_special_V[places.ids_N]]
    return PseudoLikelihood(
        np.split(found_N, np.cumsum(sizes_T)[:-1]) if texts else [],
        perplexity(-counted_N.mean()) if len(counted_N) else None,
    )


def choose_paragraphs(tokens: TokenStore, count: int) -> list[np.ndarray]:
    """Return the ids of ``count`` paragraphs, always the same; fewer are a subset of more.

    Paragraphs do not depend on how text is cut into sentences, so the texts are the same for
    models of masked tokens and of sentence pairs.
    """
    offsets = tokens.sentence_offsets[tokens.paragraph_offsets]
    chosen = draws.permutation("pseudo-perplexity", BANK_SEED, 0, len(offsets) - 1)[:count]
    return [tokens.tokens[offsets[index] : offsets[index + 1]] for index in chosen]
