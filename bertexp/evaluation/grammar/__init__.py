"""Minimal pairs: two sentences that differ in little, of which only one is grammatical."""

from __future__ import annotations

from dataclasses import dataclass

KEY = "evaluation.minimal_pairs"
# The value of the key for pairs that are made from the run's own corpus.
GENERATED = "generated"


@dataclass(frozen=True)
class Pair:
    """A sentence beside one that is not grammatical.

    Attributes:
        phenomenon: what is tested, such as ``subject_verb_agreement``.
        paradigm: the kind of pair, of which a phenomenon may have several.
    """

    good: str
    bad: str
    phenomenon: str
    paradigm: str
