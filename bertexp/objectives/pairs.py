"""Sentence pairs: next sentence prediction (Devlin et al. 2019, section 3.1) and its kin."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from rich.console import RenderableType
from rich.text import Text
from torch import Tensor

from bertexp import metrics
from bertexp.console import table
from bertexp.data.corpora.synthetic import Language
from bertexp.data.tokens.store import TokenStore
from bertexp.metrics import margin
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
from bertexp.objectives.formats import PAIR_READS
from bertexp.objectives.learner import Learner
from bertexp.objectives.pair_examples import FEATURES, PairExamples, shortcut_accuracies
from bertexp.objectives.samples import PairSample
from bertexp.pairs import negative_shares
from bertexp.validation import UserError

log = logging.getLogger(__name__)

CONFIDENCE_BINS = 10
# The terminal has a table of its own for the kinds of negatives.
metrics.register(
    "eval/nsp_loss@*",
    replace(metrics.LOSS, results=False, meaning="the loss for one kind of negatives"),
)
metrics.register(
    "eval/nsp_accuracy@*",
    metrics.share("share of right answers for one kind of negatives", results=False),
)


READS = (*PAIR_READS, "evaluation.negatives", "evaluation.count_negatives")


@OBJECTIVES.register("nsp", reads=READS)
class NextSentencePrediction(Objective):
    """Predict whether the second segment follows the first."""

    name = "nsp"
    prefix = "eval/nsp_"
    head = "pair"
    is_recordable = True
    uses_sentences = True

    def write(self, tokens: TokenStore) -> PairExamples:
        return PairExamples(tokens, self.config, self.tokenizer, self.seed, self.name)

    def logits(self, learner: Learner, hidden_MD: Tensor) -> Tensor:
        return learner.family.pair_logits(hidden_MD)

    def products(self, learner: Learner, batch: Batch) -> float:
        return float(len(batch.targets[self.name]) * learner.family.head_products(2))

    def eval_sets(self, tokens: Mapping[str, TokenStore], config: BankConfig) -> list[EvalSet]:
        """Half of the pairs follow each other, under each kind of negatives.

        The training split only serves to measure trivial features of pairs.
        """
        trained = negative_shares(self.config.negatives)
        counted = trained
        if config.count_negatives == "all":
            counted = dict.fromkeys(config.negatives, 1 / len(config.negatives))
        found = []
        for kind in dict.fromkeys([*trained, *config.negatives]):
            try:
                found.append(self._eval_set(tokens, config, kind, counted.get(kind, 0.0)))
            except UserError:
                if kind in counted:
                    raise
                log.info("No pairs with negatives=%s: the corpus has none.", kind)
        return found

    def _eval_set(
        self, tokens: Mapping[str, TokenStore], config: BankConfig, kind: str, weight: float
    ) -> EvalSet:
        alone = replace(self.config, pad_to=None, negatives=kind, next_prob=0.5)
        train, validation = (
            PairExamples(tokens[split], alone, self.tokenizer, BANK_SEED, self.name)
            for split in ("train", "validation")
        )
        chosen = _choose_pairs(validation, config.max_examples)
        reached = shortcut_accuracies(kind, train, validation, chosen)
        return replace(freeze(validation, chosen, self.name, kind, weight), baselines=reached)

    def metrics(self, found: Sequence[Evaluated]) -> dict[str, float]:
        """Return ``eval/nsp_loss`` (nats) and its like.

        ``eval/nsp_loss`` and ``eval/nsp_accuracy`` on the negatives that count (those of the task,
        in their shares, or all), and ``eval/nsp_calibration_error``; beside them
        ``eval/nsp_loss@<kind>`` and ``eval/nsp_accuracy@<kind>`` for every kind of negatives, and
        what trivial features reach there, see ``shortcut_accuracies``.
        """
        weights = [one.of.weight for one in found]
        # Of two answers the given one has the right one's probability, or the rest.
        right = [np.exp(-one.losses) for one in found]
        confidences = np.concatenate([np.maximum(chance, 1 - chance) for chance in right])
        each = [np.full(len(p), w / len(p)) for p, w in zip(right, weights, strict=True)]
        hits = np.concatenate([one.hits for one in found])
        error = calibration_error(confidences, hits, np.concatenate(each))
        values = {
            "eval/nsp_loss": float(np.average([one.loss for one in found], weights=weights)),
            "eval/nsp_accuracy": float(
                np.average([one.accuracy for one in found], weights=weights)
            ),
            "eval/nsp_calibration_error": error,
        }
        for one in found:
            values[f"eval/nsp_loss@{one.of.name}"] = one.loss
            values[f"eval/nsp_accuracy@{one.of.name}"] = one.accuracy
        return values

    def details(
        self, metrics: Mapping[str, float], answered: Mapping[str, int]
    ) -> list[RenderableType]:
        names = (*("loss", "accuracy"), *(f"shortcut{each}" for each in FEATURES), "shortcut")
        kinds = [name.partition("@")[2] for name in metrics if name.startswith("eval/nsp_loss@")]
        if not kinds:
            return []
        rows = [[k, *(f"{metrics[f'eval/nsp_{name}@{k}']:.3f}" for name in names)] for k in kinds]
        heads = ("negatives", "loss", "accuracy", "length", "overlap", "position", "all three")
        count = answered[f"eval/nsp_accuracy@{kinds[0]}"]
        note = Text(
            f"Of {count:,} pairs each: an accuracy is known to ± {margin(0.5, count):.3f} (95%). "
            "The last four: accuracy of a logistic regression on trivial features.",
            "dim",
        )
        return [table(*heads, rows=rows), note, ""]

    def reference(self, sets: Sequence[EvalSet], language: Language | None) -> Reference:
        answered = {f"eval/nsp_accuracy@{one.name}": len(one.labels) for one in sets}
        answered["eval/nsp_accuracy"] = sum(len(one.labels) for one in sets if one.weight)
        return replace(super().reference(sets, language), answered=answered)

    def samples(self, logits_NC: Tensor, batch: Batch) -> Iterator[PairSample]:
        labels_B = batch.targets[self.name].labels_N
        follows_B = logits_NC.float().softmax(-1)[:, 0]
        assert batch.token_type_ids_BL is not None
        decode = self.tokenizer.backend.decode
        for row, (label, probability) in enumerate(zip(labels_B, follows_B, strict=True)):
            ids, segments = batch.input_ids_BL[row], batch.token_type_ids_BL[row]
            first, second = (decode(ids[segments == segment].tolist()) for segment in (0, 1))
            yield PairSample(first, second, bool(label == 0), float(probability))


@OBJECTIVES.register("sop", reads=READS)
class SentenceOrderPrediction(NextSentencePrediction):
    """Predict whether two segments are in order or swapped (Lan et al. 2020, "ALBERT")."""

    def write(self, tokens: TokenStore) -> PairExamples:
        if set(negative_shares(self.config.negatives)) != {"swap"}:
            raise UserError(
                f"task.negatives={self.config.negatives}: task=sop swaps the segments; other "
                "negatives are for task=nsp."
            )
        return super().write(tokens)


def calibration_error(confidences: np.ndarray, hits: np.ndarray, weights: np.ndarray) -> float:
    """Return the expected calibration error of predictions of one of two classes.

    The mean distance between confidence and accuracy over ten bins of confidence between 0.5
    and 1, each counting by the weight in it (Guo et al. 2017, "On calibration of modern
    neural networks", equation 3).
    """
    bins = ((confidences - 0.5) * 2 * CONFIDENCE_BINS).astype(np.int64)
    gaps = np.bincount(bins.clip(0, CONFIDENCE_BINS - 1), weights * (confidences - hits))
    return float(np.abs(gaps).sum() / weights.sum())


def _choose_pairs(examples: PairExamples, count: int | None) -> np.ndarray:
    order = shuffled(len(examples))
    follows = examples.strata(0)[order] == 0
    half = min(follows.sum(), (~follows).sum(), (count or len(examples)) // 2 or 1)
    return np.concatenate([order[follows][:half], order[~follows][:half]])
