"""The effect of masking, measured on batches instead of taken from the configuration."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from bertexp import draws
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.masking.masker import Masked
from bertexp.masking.words import batch_words
from bertexp.objectives.examples import MaskedExamples

log = logging.getLogger(__name__)

BATCHES = 20
BATCH_SIZE = 32
# Standard errors by which the measured rate may differ from the configured one by chance.
TOLERANCE = 4.0
# Runs of this many tokens and more are counted together.
LONGEST_RUN = 20


@dataclass(frozen=True)
class Audit:
    """Figures of a number of masked batches; shares are between 0 and 1.

    Attributes:
        requested: the configured rate; the mean over maskable tokens if sequences have their own.
        realised: predicted tokens over maskable ones.
        error: the standard error of ``realised``, from the variation between sequences.
        mask, random, keep: shares of the predicted tokens that became the mask token, became
            another token, or stayed. A random token that equals the original counts as kept.
        only_corrupted: changed tokens that are not predicted, over maskable ones.
        whole_words: words with all tokens predicted, over words with any token predicted.
        runs: the number of stretches of predicted tokens by length; ``LONGEST_RUN`` includes all
            longer ones.
        empty: sequences that drew no prediction, see ``Masked``.
    """

    requested: float
    realised: float
    error: float
    mask: float
    random: float
    keep: float
    only_corrupted: float
    whole_words: float
    runs: dict[int, int]
    sequences: int
    empty: int

    @property
    def differs(self) -> bool:
        """Whether the realised rate differs from the requested one by more than sampling error."""
        # Every sequence may have exactly its share: then the only error is that of rounding.
        return abs(self.realised - self.requested) > TOLERANCE * self.error + 1e-9

    @property
    def mean_run(self) -> float:
        return sum(size * n for size, n in self.runs.items()) / max(sum(self.runs.values()), 1)

    def figures(self) -> dict[str, float]:
        """Return all figures by name, with the mean length of the runs."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        del named["runs"]
        return named | {"mean_run": self.mean_run}

    def warn(self, where: str = "") -> None:
        if self.differs:
            log.warning(
                "masking%s: %.2f%% of the tokens should be predicted, %.2f%% (± %.2f) are; %d "
                "of %d sequences drew no prediction (masking.at_least_one gives them one).",
                where,
                *(100 * value for value in (self.requested, self.realised, self.error)),
                self.empty,
                self.sequences,
            )


def audit(examples: MaskedExamples, batches: int = BATCHES) -> Audit:
    """Measure the masks of ``batches`` fixed batches of the first epoch."""
    sums: dict[str, Any] = defaultdict(int)
    runs: Counter[int] = Counter()
    for ids_BL, masked in masked_batches(examples, batches, BATCH_SIZE):
        runs.update(np.minimum(run_lengths(masked.predicted_BL), LONGEST_RUN).tolist())
        for name, value in _sums(examples.masker.tokenizer, ids_BL, masked).items():
            sums[name] += value
    drawn = examples.masker.drawn
    maskable, predicted = max(sums["maskable"], 1), max(sums["predicted"], 1)
    return Audit(
        requested=drawn if isinstance(drawn, float) else sums["requested"] / maskable,
        realised=sums["predicted"] / maskable,
        error=sums["squares"] ** 0.5 / maskable,
        mask=sums["mask"] / predicted,
        random=sums["random"] / predicted,
        keep=sums["keep"] / predicted,
        only_corrupted=sums["only_corrupted"] / maskable,
        whole_words=sums["whole_words"] / max(sums["words"], 1),
        runs=dict(sorted(runs.items())),
        sequences=sums["sequences"],
        empty=sums["empty"],
    )


def masked_batches(
    examples: MaskedExamples, batches: int, batch_size: int
) -> Iterator[tuple[np.ndarray, Masked]]:
    """Yield batches of the first epoch, as written and masked; always the same examples."""
    state = draws.states("audit", 0, 0, np.arange(len(examples)))
    count = min(batches * batch_size, len(state))
    # Only the first of perhaps millions of examples have to be in order.
    lowest = np.argpartition(state, count - 1)[:count]
    chosen = lowest[np.argsort(state[lowest])]
    for part in np.split(chosen, range(batch_size, len(chosen), batch_size)):
        ids_BL = examples.unmasked(part)
        yield ids_BL, examples.masker.mask(ids_BL, part, 0)


def run_lengths(predicted_BL: np.ndarray) -> np.ndarray:
    # A column apart, so that no stretch continues in the next row.
    edges = np.diff(np.pad(predicted_BL, ((0, 0), (1, 1))).ravel().astype(np.int8))
    return np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)


def _sums(tokenizer: Tokenizer, ids_BL: np.ndarray, masked: Masked) -> dict[str, float]:
    predicted_BL, changed_BL = masked.predicted_BL, masked.input_ids_BL != ids_BL
    maskable_BL = ~tokenizer.is_special_V[ids_BL]
    is_mask_BL = masked.input_ids_BL == tokenizer.mask_id
    requested_B = masked.rates_B * maskable_BL.sum(1)
    residual_B = predicted_BL.sum(1) - requested_B
    words = batch_words(ids_BL, maskable_BL, tokenizer)
    reached = np.append(0, np.cumsum(predicted_BL))
    hits_W = reached[words.ends_W] - reached[words.starts_W]
    return {
        "requested": float(requested_B.sum()),
        "squares": float((residual_B**2).sum()),
        "maskable": masked.maskable,
        "predicted": int(predicted_BL.sum()),
        "mask": int((predicted_BL & is_mask_BL).sum()),
        "random": int((predicted_BL & changed_BL & ~is_mask_BL).sum()),
        "keep": int((predicted_BL & ~changed_BL).sum()),
        "only_corrupted": int((changed_BL & ~predicted_BL).sum()),
        "words": int((hits_W > 0).sum()),
        "whole_words": int((hits_W == words.ends_W - words.starts_W).sum()),
        "sequences": len(ids_BL),
        "empty": masked.empty,
    }
