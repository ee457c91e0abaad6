"""What is probed: a paragraph's package, and the order, the words and the length of sentences.

The tasks on sentences are those of SentEval: Conneau et al. 2018, "What you can cram into a single
vector: probing sentence embeddings for linguistic properties", section 3.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

import numpy as np

from bertexp.data.config import TABLES
from bertexp.evaluation.probes import PROBES
from bertexp.evaluation.probes.tasks import Labelled, Passages

CLASSES = 8
# Shorter paragraphs are mostly headings.
LEAST_WORDS = 8
# Where documents are modules: how many parts of a module's name are its class.
_LEVELS = {"pydoc": 2, "stdlib": 1}
# The name of a document without a title: its file, or split of the Hub, and its number.
_PLACE = re.compile(r"(.*):\d+(, part \d+)?")
# As in SentEval, sentences of 5 to 28 words in six bins; here each has as many sentences.
LENGTHS = range(5, 29)
BINS = 6
# Shorter words are mostly function words.
_WORD = re.compile(r"[^\W\d_]{5,}")


@PROBES.register("package")
def which_package(passages: Passages) -> Labelled:
    """Return paragraphs of the eight largest named classes.

    For ``dataset=pydoc`` a class is a package in a package (``scipy.stats``), for ``stdlib`` a
    package of the library (``asyncio``), for WikiText an article, and for text files a file. A row
    of a table has only a number, and its file may be one of many with the same content, so that a
    classifier would merely separate the few longest rows.
    """
    labelled = [
        (text, label)
        for name, text in passages.paragraphs
        if (label := _label(name, passages)) and len(text.split()) >= LEAST_WORDS
    ]
    sizes = Counter(label for _, label in labelled)
    # Of classes of equal size, the first by name, for a fixed result.
    largest = sorted(sizes, key=lambda label: (-sizes[label], label))[:CLASSES]
    return [(text, label) for text, label in labelled if label in largest]


def _label(name: str, passages: Passages) -> str | None:
    if levels := _LEVELS.get(passages.dataset):
        return ".".join(name.split(".")[:levels])
    if not (place := _PLACE.fullmatch(name)):
        return name
    kinds = {*passages.corpus.source.replace(",", "").split()}
    return place[1] if passages.dataset == "text" and not kinds & {*TABLES} else None


@PROBES.register("order")
def swapped_or_not(passages: Passages) -> Labelled:
    """Return two neighbouring sentences as one text, every other one in reverse order.

    They are not a pair, because a model of masked tokens knows no second segment.
    """
    pairs = [
        pair
        for sentences in passages.sentences
        for pair in [*pairwise(sentences)][::2]
        if all(len(sentence.split()) in LENGTHS for sentence in pair)
    ]
    return [
        (f"{second} {first}", "swapped") if number % 2 else (f"{first} {second}", "in order")
        for number, (first, second) in enumerate(pairs)
    ]


@PROBES.register("word")
def which_word(passages: Passages) -> Labelled:
    """Return sentences with one of two words: the most common ones with similar frequency.

    The words have five letters or more, in any case.
    """
    sentences = _sentences(passages)
    words = [set(_WORD.findall(sentence.lower())) for sentence in sentences]
    sizes = Counter(word for found in words for word in found)
    pair = sorted(sizes, key=lambda word: (-sizes[word], word))[:2]
    return [
        (sentence, next(word for word in pair if word in found))
        for sentence, found in zip(sentences, words, strict=True)
        if len(found.intersection(pair)) == 1
    ]


@PROBES.register("length")
def how_long(passages: Passages) -> Labelled:
    """Return sentences by their number of words, in bins of about equal size."""
    sentences = _sentences(passages)
    sizes = np.array([len(sentence.split()) for sentence in sentences])
    borders = np.unique(np.quantile(sizes, np.arange(1, BINS) / BINS)) if len(sizes) else sizes
    bins = np.searchsorted(borders, sizes)
    return [(text, f"{number}") for text, number in zip(sentences, bins, strict=True)]


def _sentences(passages: Passages) -> list[str]:
    found = (sentence for sentences in passages.sentences for sentence in sentences)
    return [sentence for sentence in found if len(sentence.split()) in LENGTHS]
