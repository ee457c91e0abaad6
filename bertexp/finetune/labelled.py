"""Labelled texts as examples, and the head that predicts a class or a score from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bertexp.data.cache import fingerprint
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.data.tokens.unknown import check_unknown
from bertexp.families.base import LABEL
from bertexp.finetune.config import LabelledConfig
from bertexp.finetune.rows import Split
from bertexp.finetune.sources import Splits, read_splits
from bertexp.objectives.batch import Batch, written
from bertexp.objectives.examples import Examples
from bertexp.objectives.head import Head
from bertexp.objectives.learner import Learner
from bertexp.objectives.positions import use_first_position
from bertexp.validation import UserError


class LabelledExamples(Examples):
    """Examples of one text or two with a label.

    Args:
        labels: the classes in order; empty for scores.
        max_length: the length to truncate to: a text at its end, the longer text of a pair first.

    Attributes:
        targets: the number of each class (``int64``) or each score (``float32``); None if the
            labels are secret.
    """

    def __init__(
        self, split: Split, labels: list[str], tokenizer: Tokenizer, max_length: int
    ) -> None:
        self._pad_id = tokenizer.pad_id
        firsts = tokenizer.encode(split.texts)
        seconds = tokenizer.encode(split.texts_b) if split.texts_b else [None] * len(firsts)
        self._rows, self._firsts = [], []
        for first, second in zip(firsts, seconds, strict=True):
            special = tokenizer.special_in_sequence if second is None else tokenizer.special_in_pair
            a, b = _fitting(len(first), len(second or ()), max_length - special)
            row = tokenizer.sequence(first[:a], None if second is None else second[:b])
            self._rows.append(row.astype(np.int32))
            self._firsts.append(a + special - 1)
        self._is_pair = bool(split.texts_b)
        self.targets: np.ndarray | None = None
        if split.labels and labels:
            self.targets = np.array([labels.index(str(one)) for one in split.labels])
        elif split.labels:
            self.targets = np.array(split.labels, dtype=np.float32)

    def __len__(self) -> int:
        return len(self._rows)

    def counts(self, vocab_size: int) -> np.ndarray:
        return np.bincount(np.concatenate(self._rows), minlength=vocab_size)

    def documents(self) -> np.ndarray:
        return np.arange(len(self))

    def lengths(self, epoch: int) -> np.ndarray:
        return np.array([len(row) for row in self._rows])

    def batch(self, epoch: int, example_ids: np.ndarray) -> Batch:
        rows = [self._rows[index] for index in example_ids]
        second_B = np.array([self._firsts[index] for index in example_ids])
        batch = written(
            example_ids, rows, self._pad_id, second_B=second_B if self._is_pair else None
        )
        # The labels of a test set are secret: only predictions are read there.
        labels_B = np.zeros(len(rows)) if self.targets is None else self.targets[example_ids]
        return use_first_position(batch, LABEL, torch.from_numpy(labels_B))


def _fitting(first: int, second: int, capacity: int) -> tuple[int, int]:
    """Return the lengths of two texts after truncation, of the longer one first."""
    if first + second <= capacity:
        return first, second
    if min(first, second) <= capacity // 2:
        shorter = min(first, second)
        return (first, capacity - first) if shorter == first else (capacity - second, second)
    return capacity - capacity // 2, capacity // 2


class LabelHead(Head):
    """The head for labels of a model of ``transformers``, and its loss.

    With one label it predicts a score, and its loss is the squared error; else a class, and its
    loss is the cross-entropy in nats (Devlin et al. 2019, section 4.1).
    """

    name = LABEL
    head = LABEL
    is_recordable = True

    def logits(self, learner: Learner, hidden_MD: Tensor) -> Tensor:
        return learner.family.label_logits(hidden_MD)

    def loss(self, learner: Learner, hidden_MD: Tensor, labels_N: Tensor) -> Tensor:
        return loss(self.logits(learner, hidden_MD), labels_N)

    def products(self, learner: Learner, batch: Batch) -> float:
        family = learner.family
        return float(len(batch.targets[self.name]) * family.head_products(family.config.num_labels))


def loss(logits_BC: Tensor, targets_B: Tensor) -> Tensor:
    """Return the summed loss of classes (``int64``) or scores."""
    logits_BC = logits_BC.float()
    if targets_B.is_floating_point():
        return functional.mse_loss(logits_BC[:, 0], targets_B, reduction="sum")
    return functional.cross_entropy(logits_BC, targets_B, reduction="sum")


@dataclass(frozen=True)
class LabelledData:
    """The data for fine-tuning and for evaluating the model.

    Attributes:
        labels: the classes in order; empty for scores.
        validation: the validation sets by condition; the first, ``""``, decides.
        test: the test sets, without labels, by the name of their submission.
        fingerprint: 16 digits that change with any text or label of the validation sets.
    """

    labels: list[str]
    train: LabelledExamples
    validation: dict[str, LabelledExamples]
    test: dict[str, LabelledExamples]
    fingerprint: str

    @property
    def answered(self) -> dict[str, int]:
        return {
            f"eval/accuracy{f'@{name}' if name else ''}": len(examples)
            for name, examples in self.validation.items()
        }


def prepare_labelled(config: LabelledConfig, tokenizer: Tokenizer, max_length: int) -> LabelledData:
    """Read the splits of a task and tokenize them."""
    splits = read_splits(config)
    labels = number_labels(splits, config.labels) if config.kind == "classification" else []

    def cut(split: Split) -> LabelledExamples:
        examples = LabelledExamples(split, labels, tokenizer, max_length)
        counts_V = examples.counts(tokenizer.vocab_size)
        advice = "a model of this language, with a vocabulary for it, would know them"
        texts = [*split.texts, *split.texts_b]
        check_unknown(counts_V, tokenizer, texts, split.source, advice)
        return examples

    validation = [[s.texts, s.texts_b, s.labels] for s in splits.validation.values()]
    return LabelledData(
        labels,
        cut(splits.train),
        {name: cut(split) for name, split in splits.validation.items()},
        {name: cut(split) for name, split in splits.test.items()},
        fingerprint([labels, config.kind, validation]),
    )


def number_labels(splits: Splits, wanted: Sequence[str] | None) -> list[str]:
    """Return the classes in order: the configured ones, or the sorted ones of the training split.

    Raises:
        UserError: there is only one, or a split has another.
    """
    found = sorted(set(map(str, splits.train.labels)), key=_in_order)
    labels = found if wanted is None else [*wanted]
    if len(found) < 2:
        raise UserError(f"{splits.train.source}: has the one label '{found[0]}'; two are needed.")
    known = f"finetune.labels=[{', '.join(labels)}]."
    if wanted is None:
        known = f"those to train on ({', '.join(labels)}); finetune.labels=[...] can name it."
    for split in (splits.train, *splits.validation.values()):
        for number, label in enumerate(split.labels, start=1):
            if label not in labels:
                raise UserError(
                    f"{split.source}, row {number}: the label '{label}' is none of {known}"
                )
    return labels


def _in_order(label: str) -> tuple[float, str]:
    return (float(label), "") if label.lstrip("-").isdigit() else (math.inf, label)
