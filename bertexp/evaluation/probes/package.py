"""Which of the largest packages, articles or files a paragraph comes from."""

from __future__ import annotations

import re
from collections import Counter

from bertexp.data.config import TABLES
from bertexp.evaluation.probes import PROBES
from bertexp.evaluation.probes.tasks import Labelled, Passages

CLASSES = 8
# Shorter paragraphs are headings and the like.
LEAST_WORDS = 8
# Where documents are modules: how many parts of a module's name are its class.
_LEVELS = {"pydoc": 2, "stdlib": 1}
# The name of a document without a title: its file, or split of the Hub, and its number.
_PLACE = re.compile(r"(.*):\d+(, part \d+)?")


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
