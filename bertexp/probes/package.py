"""Which of the largest packages or documents a paragraph comes from."""

from __future__ import annotations

from collections import Counter

from bertexp.probes import PROBES
from bertexp.probes.questions import Labelled, Passages

CLASSES = 8
# Shorter ones are headings and the like.
LEAST_WORDS = 8


@PROBES.register("package")
def which_package(passages: Passages) -> Labelled:
    """Return paragraphs of the eight largest packages, or articles where there are none.

    For ``dataset=pydoc`` a package is what stands before the first point of a module's name
    (``asyncio``); elsewhere it is the document.
    """
    is_code = passages.dataset == "pydoc"
    labelled = [
        (text, name.partition(".")[0] if is_code else name)
        for name, text in passages.paragraphs
        if len(text.split()) >= LEAST_WORDS
    ]
    sizes = Counter(label for _, label in labelled)
    # Of as many paragraphs, the one whose name comes first: always the same.
    largest = sorted(sizes, key=lambda label: (-sizes[label], label))[:CLASSES]
    return [(text, label) for text, label in labelled if label in largest]
