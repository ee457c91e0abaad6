"""A probe of one's own: whose name a sentence begins with."""

from __future__ import annotations

from bertexp.evaluation.probes import PROBES
from bertexp.evaluation.probes.tasks import Labelled, Passages


@PROBES.register("name")
def first_name(passages: Passages) -> Labelled:
    """Return sentences by their first word, the word itself left out."""
    parted = (s.partition(" ") for sentences in passages.sentences for s in sentences)
    return [(rest, first) for first, _, rest in parted if first in ("Ada", "Bert")]
