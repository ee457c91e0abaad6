"""The effective rank of representations: how many dimensions an encoder uses (Roy & Vetterli)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from rich.console import RenderableType
from rich.text import Text
from torch import Tensor

from bertexp import metrics
from bertexp.console import number, table
from bertexp.data.cache import fingerprint
from bertexp.evaluation import EVALUATORS
from bertexp.evaluation.evaluator import Evaluator, Source
from bertexp.objectives.base import Reference
from bertexp.objectives.batch import Batch
from bertexp.objectives.learner import Learner

NAME = "eval/effective_rank"
# Where the representations are taken: at this share of the positions of so many examples.
RATE, EXAMPLES = 0.15, 128
metrics.register(
    "effective_rank",
    low=1.0,
    comparison=True,
    meaning="dimensions that the last layer uses for tokens (@mask: for mask tokens)",
)


@EVALUATORS.register("effective_rank")
class EffectiveRank(Evaluator):
    """``eval/effective_rank`` of tokens, and ``@mask`` of mask tokens at the same positions.

    The exponential of the entropy of the singular values of the matrix of representations, divided
    by their sum: between 1 and the hidden size (Roy and Vetterli 2007, "The effective rank",
    definition 1). Models of masked tokens spend some dimensions on mask tokens alone, which text
    without masks then lacks (Meng et al. 2024, "Representation deficiency in masked language
    modeling", section 3). A rank depends on the number of rows, so tokens and masks are taken at
    the same positions: 15% of those of up to 128 validation examples. The second is left out for a
    model that was trained without mask tokens in its input. ``summary.json`` has both by layer.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        most = min(EXAMPLES, source.config.max_examples or EXAMPLES)
        self.masked = source.masked(NAME, RATE, slice(most))
        ids = [batch.input_ids_BL.tolist() for batch in self.masked]
        self.reference = Reference(fingerprints={NAME: fingerprint(ids)})
        self.layers: dict[str, list[float]] = {}

    def measure(self, learner: Learner, device: torch.device) -> Iterator[tuple[str, float]]:
        self.layers = {"tokens": effective_ranks(learner, map(_written, self.masked), device)}
        yield NAME, self.layers["tokens"][-1]
        if self.source.task.reads_masks:
            self.layers["masks"] = effective_ranks(learner, self.masked, device)
            yield f"{NAME}@mask", self.layers["masks"][-1]

    def summary(self) -> dict[str, Any]:
        return {"effective_rank": self.layers} if self.layers else {}

    def details(self) -> list[RenderableType]:
        if not self.layers:
            return []
        kinds = [*self.layers.values()]
        rows = [
            (str(layer), *(number(kind[layer], 1) for kind in kinds))
            for layer in range(len(kinds[0]))
        ]
        note = Text("Effective rank of the representations; layer 0 are the embeddings.", "dim")
        return [table("layer", *self.layers, rows=rows), note, ""]


@torch.no_grad()
def effective_ranks(
    learner: Learner, batches: Iterator[Batch] | list[Batch], device: torch.device
) -> list[float]:
    """Return the rank of the embeddings and of each layer, at the predicted positions."""
    learner.eval()
    family = learner.family
    products: Tensor | float = 0.0
    for batch in (each.to(device) for each in batches):
        arguments = family.arguments(batch.input_ids_BL, batch.attention_mask_BL)
        states = family.base(**arguments, output_hidden_states=True).hidden_states
        at_N = batch.targets[NAME].positions_N
        states_YND = torch.stack([state_BLD.flatten(0, 1)[at_N] for state_BLD in states])
        # Products of the columns, small enough to be added up in float64 on the CPU.
        states_YND = states_YND.float().cpu().double()
        products += states_YND.mT @ states_YND
    assert isinstance(products, Tensor)
    return [effective_rank(squares) for squares in np.linalg.eigvalsh(products.numpy())]


def effective_rank(squares: np.ndarray) -> float:
    """Return the effective rank of a matrix from its squared singular values."""
    values = np.sqrt(squares.clip(0))
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _written(batch: Batch) -> Batch:
    """Return the batch as it was before its tokens were masked."""
    ids_BL, target = batch.input_ids_BL.clone(), batch.targets[NAME]
    ids_BL.view(-1)[target.positions_N] = target.labels_N
    return replace(batch, input_ids_BL=ids_BL)
