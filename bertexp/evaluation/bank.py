"""The frozen evaluation bank, on which every run on a corpus is evaluated.

Losses at different mask rates cannot be compared, nor accuracies on different negatives, so
evaluation never depends on the settings of training. Each objective freezes batches of the
validation text under its own conditions, drawn under the bank's own seed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from rich.console import RenderableType
from torch.nn import functional

from bertexp.data.corpora.synthetic import Language
from bertexp.data.tokens.store import TokenStore
from bertexp.evaluation import LOSSES_FILE
from bertexp.files import replacing
from bertexp.objectives.base import EvalSet, Evaluated, Objective, Reference
from bertexp.objectives.config import BankConfig
from bertexp.objectives.learner import Learner
from bertexp.objectives.samples import Sample


@dataclass(frozen=True)
class Bank:
    """The evaluation sets of each objective of a task, and what is known of its metrics."""

    sets: list[tuple[Objective, list[EvalSet]]]
    reference: Reference

    @property
    def all_sets(self) -> list[EvalSet]:
        return [one for _, sets in self.sets for one in sets]

    def details(self, metrics: Mapping[str, float]) -> list[RenderableType]:
        answered = self.reference.answered
        return [part for one, _ in self.sets for part in one.details(metrics, answered)]

    def metrics(self, found: Sequence[Evaluated]) -> dict[str, float]:
        """Return a model's metrics by name.

        Without an ``eval/loss`` among them, the first objective's loss is added as one.
        """
        metrics: dict[str, float] = {}
        for objective, sets in self.sets:
            own = [one for one in found if any(one.of is each for each in sets)]
            metrics |= objective.metrics(own)
            for one in sets:
                metrics |= one.baselines
        first, _ = self.sets[0]
        metrics.setdefault("eval/loss", metrics[f"{first.prefix}loss"])
        return metrics


def build_bank(
    objectives: Sequence[Objective],
    tokens: Mapping[str, TokenStore],
    config: BankConfig,
    language: Language | None = None,
) -> Bank:
    sets = [(each, each.eval_sets(tokens, config)) for each in objectives]
    reference = Reference()
    for objective, own in sets:
        reference |= objective.reference(own, language)
        reference |= Reference(fingerprints=_fingerprints(objective, own))
    return Bank(sets, reference)


def _fingerprints(objective: Objective, sets: Sequence[EvalSet]) -> dict[str, str]:
    """Return 16 digits for an objective, and for each of its named conditions.

    Two runs were evaluated on the same batches if these are equal: ``mlm`` for metrics of masked
    tokens, ``nsp`` for those of pairs, ``nsp@<kind>`` for one kind of negatives.
    """
    found = {}
    for name in dict.fromkeys([objective.name, *(one.objective for one in sets)]):
        own = [one for one in sets if one.objective == name]
        parts = sorted(f"{one.fingerprint} {one.weight:g}" for one in own if one.weight)
        found[name] = hashlib.blake2b(" ".join(parts).encode(), digest_size=8).hexdigest()
        named = [one for one in own if isinstance(one.condition, str)]
        found |= {f"{name}@{one.name}": one.fingerprint for one in named}
    return found


def evaluate(learner: Learner, bank: Bank, device: torch.device) -> dict[str, float]:
    """Return ``eval/*`` on the bank; the model is left in evaluation mode."""
    return bank.metrics(predict(learner, bank, device))


@torch.no_grad()
def predict(learner: Learner, bank: Bank, device: torch.device) -> list[Evaluated]:
    """Return predictions on the whole bank; the model is left in evaluation mode."""
    learner.eval()
    return [_predict(learner, one, device) for one in bank.all_sets]


@torch.no_grad()
def draw_samples(learner: Learner, bank: Bank, device: torch.device) -> list[Sample]:
    """Return some predictions on the bank for people to read."""
    learner.eval()
    samples: list[Sample] = []
    for objective, sets in bank.sets:
        batch = sets[0].shown
        logits_NC = learner.logits(batch.to(device))[objective.name]
        samples += objective.samples(logits_NC.cpu(), batch)
    return samples


def _predict(learner: Learner, one: EvalSet, device: torch.device) -> Evaluated:
    losses, hits = [], []
    for batch in one.batches:
        on_device = batch.to(device)
        logits = learner.logits(on_device)[one.objective].float()
        labels = on_device.targets[one.objective].labels_N
        losses.append(functional.cross_entropy(logits, labels, reduction="none"))
        hits.append(logits.argmax(-1) == labels)
    return Evaluated(one, torch.cat(losses).double().cpu().numpy(), torch.cat(hits).cpu().numpy())


def example_losses(bank: Bank, found: Sequence[Evaluated]) -> pa.Table:
    """Return a row for each objective, condition and example with predictions.

    Columns: ``objective``, mask ``rate`` (null for pairs), ``negatives`` (their kind, null for
    masked tokens), ``weight`` (of the condition in the mean over all), ``example`` (its number in
    the validation split), ``document`` (its number; examples of a document are not independent),
    ``loss`` (in nats, summed over the predictions) and ``count`` (the number of predictions). Rows
    are in the order of objective, rate, negatives and example. The table's metadata hold the
    bank's fingerprints as JSON under ``bank``: if they agree, so do the predicted tokens.
    """
    order = [(name, "ascending") for name in ("objective", "rate", "negatives", "example")]
    table = pa.concat_tables([_rows(one) for one in found]).sort_by(order)
    return table.replace_schema_metadata({b"bank": json.dumps(bank.reference.fingerprints)})


def write_example_losses(folder: Path, table: pa.Table) -> None:
    """Write the table to the run's folder, all or nothing."""
    with replacing(folder / LOSSES_FILE) as partial:
        pq.write_table(table, partial)


def _rows(found: Evaluated) -> pa.Table:
    one = found.of
    owners = np.concatenate(
        [
            batch.example_ids[batch.targets[one.objective].rows(batch.input_ids_BL.shape[1])]
            for batch in one.batches
        ]
    )
    examples, row_N = np.unique(owners, return_inverse=True)
    is_rate = isinstance(one.condition, float)
    return pa.table(
        {
            "objective": pa.array([one.objective] * len(examples)),
            "rate": pa.array([one.condition if is_rate else None] * len(examples), pa.float64()),
            "negatives": pa.array([None if is_rate else one.name] * len(examples), pa.string()),
            "weight": np.full(len(examples), one.weight),
            "example": examples,
            "document": one.documents[examples],
            "loss": np.bincount(row_N, found.losses),
            "count": np.bincount(row_N),
        }
    )
