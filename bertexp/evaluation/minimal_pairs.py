"""Minimal pairs: how often a model prefers the grammatical one of two sentences.

A sentence's score is its pseudo-log-likelihood (Salazar et al. 2020), with the pieces of a word
from left to right, see ``scoring``. It needs no training and no mask rate.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import compress
from typing import Any

import numpy as np
import torch
from rich.console import RenderableType
from rich.text import Text

from bertexp import draws, metrics
from bertexp.console import number, table
from bertexp.data.cache import fingerprint
from bertexp.data.tokens.unknown import MANY, unknown_share
from bertexp.evaluation import EVALUATORS
from bertexp.evaluation.evaluator import Evaluator, Source
from bertexp.evaluation.grammar import GENERATED, KEY, Pair
from bertexp.evaluation.grammar.generated import generate_pairs
from bertexp.evaluation.grammar.reading import read_pairs
from bertexp.evaluation.scoring import encode, log_likelihoods, place
from bertexp.metrics import accuracy_interval
from bertexp.objectives.base import BANK_SEED, Reference
from bertexp.objectives.learner import Learner

log = logging.getLogger(__name__)

NAME = "eval/minimal_pairs"
VERSION = 2
CHANCE = 0.5
metrics.register(
    NAME,
    metrics.share(
        "how often the grammatical one of two sentences is likelier (chance: 0.5)", comparison=True
    ),
)
metrics.register(
    f"{NAME}/*",
    metrics.share("the same for the pairs of one phenomenon", results=False, comparison=True),
)


@dataclass(frozen=True)
class Preferred:
    """The results on one phenomenon, or on all pairs: the shares of pairs that are right.

    Attributes:
        untrained: of a model with initial weights.
    """

    name: str
    pairs: int
    accuracy: float
    untrained: float


@EVALUATORS.register("minimal_pairs")
class MinimalPairs(Evaluator):
    """``eval/minimal_pairs``, the share of pairs, and ``eval/minimal_pairs/<phenomenon>``.

    A pair with equal scores, as if a tokenizer makes the same tokens of both, counts as half.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.every = pairs_of(source)
        self.pairs = choose_pairs(self.every, source.config.max_examples)
        texts = [text for pair in self.pairs for text in (pair.good, pair.bad)]
        self.places = place(source.tokenizer, encode(source.tokenizer, texts), source.max_length)
        self._warn_of_unknown()
        starts = np.searchsorted(self.places.text_N, np.arange(1, len(texts)))
        ids = [each.tolist() for each in np.split(self.places.ids_N, starts)]
        # Scores of the same tokens differ in the last bits between places in a batch.
        self.is_same_P = np.array([a == b for a, b in zip(ids[::2], ids[1::2], strict=True)])
        self.names = np.array([f"{NAME}/{pair.phenomenon}" for pair in self.pairs])
        self.counts = {NAME: len(self.pairs), **Counter(self.names.tolist())}
        self.reference = Reference(
            yardsticks=dict.fromkeys(self.counts, CHANCE),
            answered=self.counts,
            fingerprints=self._fingerprints(),
        )
        self.found: list[Preferred] = []
        self.right_P = np.zeros(0)

    def _warn_of_unknown(self) -> None:
        tokenizer = self.source.tokenizer
        counts_V = np.bincount(self.places.ids_N, minlength=tokenizer.vocab_size)
        share = unknown_share(counts_V, tokenizer)
        if share > MANY:
            log.warning(
                "%s=%s: %.1f%% of the tokens are %s, which are not scored; the more there are, the "
                "less the shares of pairs show.",
                *(KEY, self.source.config.minimal_pairs, 100 * share, tokenizer.roles.unk),
            )

    def measure(self, learner: Learner, device: torch.device) -> Iterator[tuple[str, float]]:
        self.right_P = self._right(learner, device)
        own = self._shares(self.right_P)
        key = {
            "version": VERSION,
            "task": [asdict(one.config) for one in self.source.task.objectives],
            "pairs": self.reference.fingerprints[NAME],
        }

        def measured(model: Any) -> dict[str, float]:
            fresh = Learner(model, learner.heads.values()).to(device)
            return self._shares(self._right(fresh, device))

        initial = self.of_untrained(learner, key, measured)
        self.found = [
            Preferred(name, count, own[name], initial[name]) for name, count in self.counts.items()
        ]
        yield from own.items()

    def chosen(self) -> Iterator[tuple[str, str]]:
        """Yield the kind of each pair that was scored and the sentence that is likelier.

        They are in order of the files. Where both are equally likely it is the wrong one.
        """
        right = dict(zip(self.pairs, self.right_P, strict=True))
        for pair in self.every:
            if pair in right:
                yield pair.paradigm, pair.good if right[pair] == 1 else pair.bad

    def _right(self, learner: Learner, device: torch.device) -> np.ndarray:
        """Return, for each pair, 1 where the grammatical sentence is likelier, 0.5 if equally."""
        tokenizer = self.source.tokenizer
        found_N = log_likelihoods(learner, tokenizer, self.places, device)
        # Tokens that no model learns to predict do not count.
        found_N[tokenizer.is_special_V[self.places.ids_N]] = 0
        scores_T = np.bincount(self.places.text_N, found_N, 2 * len(self.pairs))
        difference_P = scores_T[::2] - scores_T[1::2]
        return np.where((difference_P == 0) | self.is_same_P, 0.5, difference_P > 0)

    def _shares(self, right_P: np.ndarray) -> dict[str, float]:
        own = {name: right_P[self.names == name] for name in self.counts}
        return {name: float((own[name] if len(own[name]) else right_P).mean()) for name in own}

    def _fingerprints(self) -> dict[str, str]:
        texts = [[pair.good, pair.bad] for pair in self.pairs]
        own = {name: [*compress(texts, self.names == name)] for name in self.counts}
        return {name: fingerprint(own[name] or texts) for name in self.counts}

    def summary(self) -> dict[str, Any]:
        return {"minimal_pairs": [asdict(one) for one in self.found]}

    def details(self) -> list[RenderableType]:
        columns = ("minimal pairs", "accuracy", "95% (pairs)", "untrained", "chance")
        rows = []
        for one in self.found:
            # Names are folded at spaces.
            label = one.name.removeprefix(f"{NAME}/").replace("_", " ")
            label = "all" if one.name == NAME else label
            known = accuracy_interval(one.name, one.accuracy, self.counts)
            shares = (number(one.accuracy), known, number(one.untrained), number(CHANCE))
            rows.append((label, *shares))
        note = "How often the grammatical sentence is likelier; untrained: with initial weights."
        return [table(*columns, rows=rows), Text(note, "dim"), ""] if rows else []


def pairs_of(source: Source) -> list[Pair]:
    """Return all pairs that ``evaluation.minimal_pairs`` names."""
    if source.config.minimal_pairs == GENERATED:
        return generate_pairs(source.corpus, source.dataset.language)
    return read_pairs(str(source.config.minimal_pairs))


def choose_pairs(pairs: Iterable[Pair], each: int | None) -> list[Pair]:
    """Return ``each`` pairs a phenomenon on average, as many of every paradigm as it has.

    They are always the same, and in order of their phenomena; fewer are a subset of more.
    """
    every = [*pairs]
    counts = Counter(pair.paradigm for pair in every)
    seen: Counter[str] = Counter()
    order = {p: _order(p, count) for p, count in counts.items()}
    ranked = []
    for pair in every:
        ranked.append((int(order[pair.paradigm][seen[pair.paradigm]]), pair))
        seen[pair.paradigm] += 1
    ranked.sort(key=lambda one: (one[0], one[1].paradigm))
    limit = None if each is None else each * len({pair.phenomenon for pair in every})
    return sorted((pair for _, pair in ranked[:limit]), key=lambda pair: pair.phenomenon)


def _order(paradigm: str, count: int) -> np.ndarray:
    """Return the rank of each pair of a paradigm in random order."""
    return np.argsort(draws.permutation(f"minimal-pairs {paradigm}", BANK_SEED, 0, count))
