"""Masked language modelling (Devlin et al. 2019, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from rich.console import RenderableType
from torch import Tensor

from bertexp.console import aligned
from bertexp.data.corpora.synthetic import HIDDEN, Language
from bertexp.data.tokens.store import TokenStore
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.masking import STRATEGIES
from bertexp.masking.config import AdaptiveKeys, MaskingConfig, ReplaceConfig
from bertexp.masking.masker import Masker
from bertexp.masking.strategies import Context
from bertexp.objectives import OBJECTIVES
from bertexp.objectives.base import (
    BANK_SEED,
    EvalSet,
    Evaluated,
    Objective,
    Reference,
    freeze,
    shuffled,
)
from bertexp.objectives.batch import Batch
from bertexp.objectives.config import BankConfig
from bertexp.objectives.examples import Examples, MaskedExamples
from bertexp.objectives.learner import Learner
from bertexp.objectives.samples import SHOWN_TOKENS, Guess, MaskedSample, likeliest
from bertexp.objectives.slices import SLICE_PREFIX, SLICES, Slicer
from bertexp.objectives.vocabulary_loss import (
    Observer,
    logged_parts,
    token_weights,
    vocabulary_losses,
)

READS = (
    *("masking", "task.loss"),
    *("evaluation.mask_probs", "evaluation.pseudo_perplexity", "evaluation.minimal_pairs"),
)
# For each mask of a sample.
CANDIDATES = 3


@OBJECTIVES.register("mlm", reads=READS)
class MaskedLanguageModelling(Objective):
    """Predict the masked tokens of a block of text, or of a pair of segments."""

    name = "mlm"
    prefix = "eval/"
    head = "masked"
    is_recordable = True
    reads_masks = True

    def mark(self, examples: Examples, tokens: TokenStore) -> Examples:
        return self.masked(examples, tokens)

    def masked(
        self, examples: Examples, tokens: TokenStore, kind: type[MaskedExamples] = MaskedExamples
    ) -> MaskedExamples:
        context = Context(self.masking, self.tokenizer, tokens)
        weights_V = token_weights(tokens, self.tokenizer, self.config.loss.frequency_exponent)
        return kind(examples, Masker(context, self.seed), self.name, weights_V)

    @property
    def losses_weights(self) -> dict[str, float]:
        return {self.name: 1.0} | dict.fromkeys(logged_parts(self.name, self.config.loss), 0.0)

    @property
    def follows(self) -> AdaptiveKeys | None:
        follows = any(STRATEGIES[name].adapts for _, name in self.masking.strategies)
        return STRATEGIES.keys_of(self.masking, AdaptiveKeys) if follows else None

    def logits(self, learner: Learner, hidden_MD: Tensor) -> Tensor:
        return learner.family.masked_logits(hidden_MD)

    def losses(
        self, learner: Learner, batch: Batch, encoded: Callable[[], Tensor]
    ) -> dict[str, Tensor]:
        family, target = learner.family, batch.targets[self.name]
        transformed_MD = family.transform(encoded()[target.used])
        decoder = family.decoder.weight, family.output_bias_V
        return vocabulary_losses(
            self.name, transformed_MD, *decoder, target, self.config.loss, self.observers(learner)
        )

    def observers(self, learner: Learner) -> Sequence[Observer]:
        """Return what learns the losses of its predictions in training."""
        return () if learner.rates is None else (learner.rates,)

    def products(self, learner: Learner, batch: Batch) -> float:
        used = batch.targets[self.name].used
        assert used is not None
        each = learner.family.head_products(learner.family.config.vocab_size)
        return float((used.stop - used.start) * each)

    def eval_sets(self, tokens: Mapping[str, TokenStore], config: BankConfig) -> list[EvalSet]:
        """Masked at every rate, never by random tokens."""
        slicer = Slicer(tokens["train"], self.tokenizer)
        written = self.bank_text(tokens["validation"])
        chosen = shuffled(len(written))[: config.max_examples]
        found = []
        for rate in config.mask_probs:
            # These are no longer the defaults, but the bank must not change.
            masker = bank_masker(
                self.tokenizer, tokens["validation"], rate, draw="independent", at_least_one=True
            )
            examples = MaskedExamples(written, masker, self.name)
            frozen = freeze(examples, chosen, self.name, rate, 1.0)
            parted = [slicer.kinds(batch) for batch in frozen.batches]
            slices = {way: np.concatenate([part[way] for part in parted]) for way in SLICES}
            found.append(replace(frozen, slices=slices))
        return found

    def metrics(self, found: Sequence[Evaluated]) -> dict[str, float]:
        """Return ``eval/loss`` (nats) and its like.

        ``eval/loss`` and ``eval/accuracy`` are means over the rates, each counting the same, beside
        ``eval/loss@<rate>``; ``eval/perplexity`` is the exponential of ``eval/loss``. Slices of
        ``eval/loss``, means over the rates as well, are named for the masked tokens they hold:
        ``eval/loss@rare``, ``@medium`` and ``@frequent`` by frequency in the training text,
        ``@start``, ``@middle`` and ``@end`` by place in the sequence, ``@words`` and ``@pieces`` of
        words; ``Slicer`` draws the borders. One that has no token at some rate is left out.
        """
        loss = float(np.mean([one.loss for one in found]))
        accuracy = float(np.mean([one.accuracy for one in found]))
        metrics = {
            "eval/loss": loss,
            "eval/accuracy": accuracy,
            "eval/perplexity": perplexity(loss),
        }
        metrics |= {f"eval/loss@{one.of.name}": one.loss for one in found}
        for way, names in SLICES.items():
            pairs = [(one.of.slices[way], one.losses) for one in found]
            counts_RS = np.stack([np.bincount(s, minlength=len(names)) for s, _ in pairs])
            sums_RS = np.stack([np.bincount(*pair, minlength=len(names)) for pair in pairs])
            for index, name in enumerate(names):
                if counts_RS[:, index].all():
                    mean = np.mean(sums_RS[:, index] / counts_RS[:, index])
                    metrics[SLICE_PREFIX + name] = float(mean)
        return metrics

    def reference(self, sets: Sequence[EvalSet], language: Language | None) -> Reference:
        found = super().reference(sets, language)
        if language is None or (words_V := word_numbers(self.tokenizer, language)) is None:
            return found
        losses = {
            f"eval/loss@{one.name}": float(
                np.concatenate(
                    [least_losses(batch, self.name, words_V, language) for batch in one.batches]
                ).mean()
            )
            for one in sets
        }
        mean = {"eval/loss": float(np.mean(list(losses.values())))}
        return replace(found, optimum=mean | losses)

    def details(
        self, metrics: Mapping[str, float], answered: Mapping[str, int]
    ) -> list[RenderableType]:
        rows = []
        for way, names in SLICES.items():
            shown = [(name, metrics.get(SLICE_PREFIX + name)) for name in names]
            cells = [f"{name} {value:.3f}" for name, value in shown if value is not None]
            if cells:
                rows.append([f"eval/loss by {way}", *cells])
        return [aligned(rows), ""] if rows else []

    def samples(self, logits_NC: Tensor, batch: Batch) -> Iterator[MaskedSample]:
        target, tokenizer = batch.targets[self.name], self.tokenizer
        best = likeliest(logits_NC, tokenizer, CANDIDATES)
        places_N = target.positions_N
        width = batch.input_ids_BL.shape[1]
        for row, length in enumerate(batch.real_BL.sum(1).tolist()):
            inside = (places_N >= row * width + 1) & (places_N < (row + 1) * width)
            if not inside.any():  # a text of unknown words
                continue
            first = int(places_N[inside][0])
            start = max(row * width + 1, first - SHOWN_TOKENS // 4)
            end = min(start + SHOWN_TOKENS, row * width + length)
            # Without the token that closes the text.
            end -= int(batch.input_ids_BL.flatten()[end - 1]) == tokenizer.closing_id
            ids = batch.input_ids_BL.flatten()[start:end].tolist()
            written = ids.copy()
            guesses = []
            for index in torch.nonzero((places_N >= start) & (places_N < end)).flatten().tolist():
                label = int(target.labels_N[index])
                written[int(places_N[index]) - start] = label
                guesses.append(Guess(tokenizer.shown[label], best[index]))
            text = tokenizer.join(ids, written).strip()
            yield MaskedSample(text, tokenizer.roles.mask, guesses)


def bank_masker(
    tokenizer: Tokenizer,
    tokens: TokenStore,
    rate: float,
    draw: str = "budget",
    at_least_one: bool = False,
) -> Masker:
    """Return the masker of a frozen bank, whatever the defaults: single tokens, only by masks."""
    only_mask = ReplaceConfig(mask=1.0, random=0.0, keep=0.0)
    masking = MaskingConfig(
        prob=rate, strategy="token", replace=only_mask, draw=draw, at_least_one=at_least_one
    )
    return Masker(Context(masking, tokenizer, tokens), BANK_SEED)


def perplexity(loss: float) -> float:
    """Return the exponential of a mean loss in nats; infinite for a model that diverged."""
    with np.errstate(over="ignore"):
        return float(np.exp(loss))


def least_losses(batch: Batch, name: str, words_V: np.ndarray, language: Language) -> np.ndarray:
    """Return the lowest possible loss of each prediction, see ``word_numbers``."""
    target = batch.targets[name]
    words_BL = words_V[batch.input_ids_BL.numpy()]
    rows_N, columns_N = np.unravel_index(target.positions_N.numpy(), words_BL.shape)
    # The opening token is no hidden word of the text, and what comes after it changes nothing.
    log_probs_BLW = language.log_probs(words_BL[:, 1:])
    return -log_probs_BLW[rows_N, columns_N - 1, words_V[target.labels_N.numpy()]]


def word_numbers(tokenizer: Tokenizer, language: Language) -> np.ndarray | None:
    """Return the word number of each token, ``HIDDEN`` for other tokens.

    None if a word is not one token.
    """
    words_V = np.full(tokenizer.vocab_size, HIDDEN)
    for number, ids in enumerate(tokenizer.encode(language.words)):
        if len(ids) != 1 or tokenizer.is_special_V[ids[0]]:
            return None
        words_V[ids[0]] = number
    return words_V
