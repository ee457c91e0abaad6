"""The frozen evaluation bank: which questions every run on a corpus is asked.

Losses at different mask rates cannot be compared, nor accuracies on different negatives, so
what a model is evaluated on never depends on what it was trained with. Masked tokens are asked
for in blocks of the validation text, masked once at fixed rates, wholly by ``[MASK]``; pairs
are asked about with each of some kinds of negatives, half of them following each other. Both
are drawn under a seed of the bank's own.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from bertexp import draws
from bertexp.evaluation.config import EvaluationConfig
from bertexp.evaluation.shortcuts import shortcut_accuracies
from bertexp.evaluation.slices import SLICES, Slicer
from bertexp.masking.config import MaskingConfig, ReplaceConfig
from bertexp.pairs import negative_shares
from bertexp.tasks import TASKS
from bertexp.tasks.base import Examples, Task
from bertexp.tasks.batch import Batch
from bertexp.tasks.nsp import PairExamples
from bertexp.tokens.store import TokenStore
from bertexp.validation import UserError

log = logging.getLogger(__name__)

BANK_SEED = 20181011
ONLY_MASK = ReplaceConfig(mask=1.0, random=0.0, keep=0.0)
BATCH_SIZE = 64
# Examples whose answers people get to read.
SHOWN = 3


@dataclass(frozen=True)
class Questions:
    """Frozen batches of one objective under one condition.

    Attributes:
        objective: ``"mlm"`` or ``"nsp"``.
        condition: the mask rate, or the kind of negatives.
        weight: what they count among those of the objective, 0 for those that are only
            looked at by themselves.
        batches: what is asked.
        shown: a few of the same examples, for people to read.
        documents: the document of each validation example, by the example's number.
        slices: for every way in ``SLICES`` the number of the slice that each masked token is
            in, over all batches; empty for pairs.
    """

    objective: str
    condition: float | str
    weight: float
    batches: list[Batch]
    shown: Batch
    documents: np.ndarray
    slices: dict[str, np.ndarray]

    @property
    def name(self) -> str:
        """The condition as metrics' names have it."""
        return self.condition if isinstance(self.condition, str) else f"{self.condition:g}"

    @property
    def labels(self) -> torch.Tensor:
        """The right answers, over all batches."""
        return torch.cat([batch.labels(self.objective) for batch in self.batches])

    @property
    def fingerprint(self) -> str:
        """16 digits that change whenever a question or an answer does."""
        digest = hashlib.blake2b(self.name.encode(), digest_size=8)
        for batch in self.batches:
            digest.update(batch.input_ids_BL.numpy().tobytes())
            digest.update(batch.labels(self.objective).numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Bank:
    """All questions of a task.

    Attributes:
        questions: by objective and condition.
        shortcuts: how far trivial features of the pairs get, see ``shortcut_accuracies``.
    """

    questions: list[Questions]
    shortcuts: dict[str, float]

    def of(self, objective: str) -> list[Questions]:
        """Return the questions of one objective."""
        return [asked for asked in self.questions if asked.objective == objective]

    @property
    def objectives(self) -> list[str]:
        """What is asked for, each objective once."""
        return list(dict.fromkeys(asked.objective for asked in self.questions))

    @property
    def fingerprints(self) -> dict[str, str]:
        """16 digits for each objective, and for each kind of negatives that pairs are asked with.

        Two runs were asked the same where these are equal: ``mlm`` for the metrics of masked
        tokens, ``nsp`` for those of pairs, ``nsp@<kind>`` for those at one kind of negatives.
        """
        found = {}
        for objective in self.objectives:
            counted = [asked for asked in self.of(objective) if asked.weight]
            parts = sorted(f"{asked.fingerprint} {asked.weight:g}" for asked in counted)
            digest = hashlib.blake2b(" ".join(parts).encode(), digest_size=8)
            found[objective] = digest.hexdigest()
        return found | {f"nsp@{asked.name}": asked.fingerprint for asked in self.of("nsp")}

    @property
    def yardsticks(self) -> dict[str, float]:
        """What can be reached without looking at the input, by the metric's name.

        For masked tokens the entropy of their distribution in the bank: no predictor that
        ignores the context has a lower loss, at any rate. For pairs a predictor that
        knows how often each label occurs.
        """
        found: dict[str, float] = {}
        for objective in self.objectives:
            prefix = "eval/" if objective == "mlm" else f"eval/{objective}_"
            asked = self.of(objective)
            weights = np.array([questions.weight for questions in asked])
            shares = [torch.bincount(q.labels).double() / len(q.labels) for q in asked]
            entropies = [-torch.special.xlogy(share, share).sum().item() for share in shares]
            found[f"{prefix}loss"] = float(np.average(entropies, weights=weights))
            commonest = [share.max().item() for share in shares]
            found[f"{prefix}accuracy"] = float(np.average(commonest, weights=weights))
        return found


def build_bank(task: Task, tokens: Mapping[str, TokenStore], config: EvaluationConfig) -> Bank:
    """Return the bank of a task: questions about the validation split of ``tokens``.

    The training split only tells how frequent a token is, see ``Slicer``, and what trivial
    features of pairs are worth.
    """
    questions: list[Questions] = []
    shortcuts: dict[str, float] = {}
    if "mlm" in task.objectives:
        questions += _masked_questions(task, tokens, config)
    if "nsp" in task.objectives:
        trained = negative_shares(task.config.negatives)
        counted = trained
        if config.count_negatives == "all":
            counted = dict.fromkeys(config.negatives, 1 / len(config.negatives))
        for kind in dict.fromkeys([*trained, *config.negatives]):
            try:
                asked, reached = _pair_questions(task, tokens, config, kind, counted.get(kind, 0.0))
            except UserError:
                if kind in counted:
                    raise
                log.info("No pair can be asked with %s: the corpus has none.", kind)
                continue
            questions.append(asked)
            shortcuts |= reached
    return Bank(questions, shortcuts)


def _masked_questions(
    task: Task, tokens: Mapping[str, TokenStore], config: EvaluationConfig
) -> Iterator[Questions]:
    """Yield blocks of text at every rate, the same for all tasks that mask tokens."""
    slicer = Slicer(tokens["train"], task.tokenizer)
    mlm = TASKS["mlm"](replace(task.config, name="mlm", pad_to=None), task.tokenizer)
    for rate in config.mask_probs:
        masking = MaskingConfig(prob=rate, strategy="token", replace=ONLY_MASK)
        examples = mlm.examples(tokens["validation"], masking, BANK_SEED)
        batches, shown = _cut(examples, _shuffled(len(examples))[: config.max_examples])
        parted = [slicer.kinds(batch) for batch in batches]
        slices = {way: np.concatenate([part[way] for part in parted]) for way in SLICES}
        yield Questions("mlm", rate, 1.0, batches, shown, examples.documents(), slices)


def _pair_questions(
    task: Task,
    tokens: Mapping[str, TokenStore],
    config: EvaluationConfig,
    kind: str,
    weight: float,
) -> tuple[Questions, dict[str, float]]:
    """Return pairs with one kind of negatives, and what trivial features reach on them."""
    alone = replace(task.config, name="nsp", pad_to=None, negatives=kind, next_prob=0.5)
    train, validation = (
        PairExamples(tokens[split], alone, task.tokenizer, BANK_SEED)
        for split in ("train", "validation")
    )
    asked = _choose_pairs(validation, config.max_examples)
    batches, shown = _cut(validation, asked)
    reached = shortcut_accuracies(kind, train, validation, asked)
    return Questions("nsp", kind, weight, batches, shown, validation.documents(), {}), reached


def _choose_pairs(examples: PairExamples, count: int | None) -> np.ndarray:
    """Return numbers of pairs, as many that follow each other as that do not."""
    shuffled = _shuffled(len(examples))
    follows = examples.strata(0)[shuffled] == 0
    half = min(follows.sum(), (~follows).sum(), (count or len(examples)) // 2 or 1)
    return np.concatenate([shuffled[follows][:half], shuffled[~follows][:half]])


def _shuffled(count: int) -> np.ndarray:
    return np.argsort(draws.combine(draws.key("bank", BANK_SEED, 0), np.arange(count)))


def _cut(examples: Examples, chosen: np.ndarray) -> tuple[list[Batch], Batch]:
    """Return batches of the chosen examples, those of a length together, and one to be shown."""
    by_length = chosen[np.argsort(examples.lengths(0)[chosen], kind="stable")]
    parts = np.split(by_length, range(BATCH_SIZE, len(by_length), BATCH_SIZE))
    shown = parts[len(parts) // 2][:SHOWN]
    return [examples.batch(0, part) for part in parts], examples.batch(0, shown)
