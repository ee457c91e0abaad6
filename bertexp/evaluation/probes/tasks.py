"""A probe's labelled texts, made from the corpus once and the same for every run on it."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bertexp import draws
from bertexp.data.cache import cached_json, fingerprint
from bertexp.data.corpora.corpus import SPLITS, CorpusStore
from bertexp.data.tokens.store import split_sentences
from bertexp.evaluation.probes import PROBES

log = logging.getLogger(__name__)

VERSION = 2
SEED = 20180503
# The limit of what is read of a large corpus; pydoc, stdlib and WikiText-2 are read whole.
MOST_CHARACTERS = 20_000_000
# Classes with fewer texts are left out.
LEAST_TEXTS = 20
# The share of each class's texts that classifiers are fitted to; the others test them.
FITTED = 2 / 3
# Paragraphs to cut into sentences, far more than are needed.
MOST_SPLIT = 10_000

Labelled = list[tuple[str, str]]


@dataclass(frozen=True)
class Passages:
    """The texts for probes, from both splits, as models do not see a probe's labels."""

    corpus: CorpusStore
    dataset: str
    language: str

    @cached_property
    def paragraphs(self) -> list[tuple[str, str]]:
        """The document's name and the text of each paragraph, in the corpus's order."""
        return [*self.corpus.paragraphs(*SPLITS, most=MOST_CHARACTERS)]

    @cached_property
    def sentences(self) -> list[list[str]]:
        """The sentences of each paragraph, with paragraphs in random order."""
        texts = [text for _, text in self.paragraphs]
        return [
            [s.strip() for s in split_sentences(texts[index], "sentencex", self.language)]
            for index in _shuffled(len(texts), "paragraphs")[:MOST_SPLIT]
        ]


@dataclass(frozen=True)
class ProbeTask:
    """The texts of one probe, of each class in turn and otherwise in random order.

    ``labels`` are their classes, ``int64``; all classes have the same number of texts.
    """

    name: str
    texts: list[str]
    labels: np.ndarray
    classes: list[str]

    @property
    def fitted(self) -> int:
        """The number of texts, from the first on, that classifiers are fitted to."""
        return round(FITTED * len(self.texts) / len(self.classes)) * len(self.classes)

    @cached_property
    def control(self) -> np.ndarray:
        """Random labels, always the same: those of one text of each class, permuted.

        They are as common as ``labels`` in any part, and say nothing about the texts.
        """
        numbers = np.arange(len(self.texts))
        state = draws.states("probes-control", SEED, 0, numbers)
        return state.reshape(-1, len(self.classes)).argsort(1).ravel()

    @cached_property
    def fingerprint(self) -> str:
        """16 digits that change whenever a text or a label does."""
        return fingerprint([self.texts, self.labels.tolist()])


def prepare_tasks(names: Sequence[str], passages: Passages, count: int) -> list[ProbeTask]:
    """Return the tasks of the probes that the corpus has enough text for, or find them cached.

    Each has at most ``count`` texts.
    """
    found = []
    for name in names:
        key = {
            "version": VERSION,
            "name": name,
            "corpus": passages.corpus.fingerprint,
            "dataset": passages.dataset,
            "language": passages.language,
            "count": count,
        }

        def make(name: str = name) -> dict[str, list[Any]]:
            texts, labels, classes = balanced(PROBES[name](passages), count)
            return {"texts": texts, "labels": labels, "classes": classes}

        made = cached_json("probes", key, make)
        if made["classes"]:
            labels = np.array(made["labels"], dtype=np.int64)
            found.append(ProbeTask(name, made["texts"], labels, made["classes"]))
        else:
            log.info(
                "evaluation.probes=%s: left out; fewer than two classes have %d texts.",
                name,
                LEAST_TEXTS,
            )
    return found


def balanced(labelled: Labelled, count: int) -> tuple[list[str], list[int], list[str]]:
    """Return as many texts of every class, each text once, of each class in turn.

    Returns:
        Texts, the number of the class of each, and the classes; nothing where there are not two
        classes of ``LEAST_TEXTS`` texts.
    """
    distinct = [*dict(labelled).items()]
    by_class: dict[str, list[str]] = defaultdict(list)
    for index in _shuffled(len(distinct), "texts"):
        text, label = distinct[index]
        by_class[label].append(text)
    classes = sorted(label for label, texts in by_class.items() if len(texts) >= LEAST_TEXTS)
    if len(classes) < 2:
        return [], [], []
    each = min(count // len(classes), *(len(by_class[label]) for label in classes))
    texts = [by_class[label][number] for number in range(each) for label in classes]
    return texts, [*range(len(classes))] * each, classes


def _shuffled(count: int, purpose: str) -> np.ndarray:
    """Return the numbers below ``count`` in a fixed order."""
    return draws.permutation(f"probes-{purpose}", SEED, 0, count)
