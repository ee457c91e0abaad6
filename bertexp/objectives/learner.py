"""A model and the losses of its objectives, computed only at predicted positions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bertexp import draws
from bertexp.families.base import MASKED, Family
from bertexp.families.checkpoint import BESIDE_FILE
from bertexp.families.dropout import use_fast_dropout
from bertexp.families.inputs import Inputs
from bertexp.objectives.batch import Batch
from bertexp.objectives.head import Head
from bertexp.objectives.vocabulary_loss import AdaptiveRates
from bertexp.validation import UserError

# The name of ``Learner.rates`` among the modules in ``own``.
RATES = "rates"


class Learner(nn.Module):
    """A model of ``transformers`` with the losses that train it.

    Heads are computed only at predicted positions. Their weights belong to the model, so that any
    other tool loads what ``save_pretrained`` writes.

    Args:
        model: with the heads that the objectives need.
        heads: of the objectives; those without a target in a batch are skipped.
        others: of the objectives of other phases.

    Attributes:
        own: modules that objectives train beside the model, by the objective's name, and
            ``rates``.
    """

    def __init__(self, model: Any, heads: Iterable[Head], others: Iterable[Head] = ()) -> None:
        super().__init__()
        use_fast_dropout(model)
        self.model = model
        self.family = Family.of(model)
        self.use(heads)
        others = list(others)
        every = {head.name: head for head in others} | self.heads
        # Saved with the model, so that it is never read like other models outside of its run.
        encoding = [name for name, head in self.heads.items() if head.encodes]
        if encoding or hasattr(model.config, "predicted_by"):
            model.config.predicted_by = encoding
        self.own: Any = nn.ModuleDict()
        for head in every.values():
            # The same draws in all processes, whatever was drawn before.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(draws.key(f"objective-{head.name}", head.seed, 0).item())
                if (module := head.build(self.family)) is not None:
                    self.own[head.name] = module
        if any(head.follows for head in (*others, *every.values())):
            self.own[RATES] = AdaptiveRates(self.family.config.vocab_size)

    def use(self, heads: Iterable[Head]) -> None:
        """Switch to other heads, those of another phase."""
        self.heads = {head.name: head for head in heads}

    @property
    def rates(self) -> AdaptiveRates | None:
        """The rates of tokens that follow how well the model predicts them, None if none do."""
        keys = next((head.follows for head in self.heads.values() if head.follows), None)
        if keys is None:
            return None
        self.own[RATES].keys = keys
        return self.own[RATES]

    @property
    def is_causal(self) -> bool:
        """Whether masked tokens are predicted from those before them only."""
        return any(head.head == MASKED and head.is_causal for head in self.heads.values())

    @property
    def own_state(self) -> dict[str, Tensor]:
        """The weights of ``own``, tied ones once."""
        names = {*dict(self.own.named_parameters()), *dict(self.own.named_buffers())}
        return {name: w for name, w in self.own.state_dict().items() if name in names}

    @property
    def models(self) -> dict[str, Any]:
        """Models that are exported with ``model``, by their folder in its own."""
        used = [(self.heads[name], self.own[name]) for name in self.own if name in self.heads]
        each = (head.models(module) for head, module in used)
        return {name: model for found in each for name, model in found.items()}

    @property
    def exported(self) -> dict[str, Tensor]:
        used = [head for name, head in self.heads.items() if name in self.own]
        prefixes = [f"{head.name}.{part}" for head in used for part in head.exported]
        return {n: w for n, w in self.own_state.items() if n.startswith(tuple(prefixes))}

    def load_own(
        self, folder: Path, fit: Callable[[Tensor, Tensor], Tensor] = lambda _, weight: weight
    ) -> None:
        """Load the weights of ``own`` from a checkpoint or an exported model.

        Args:
            fit: converts a loaded weight to be like the one it replaces.

        Raises:
            UserError: weights are missing or do not fit; an exported model may lack those that are
                not exported.
        """
        if not self.own:
            return
        path, state = folder / BESIDE_FILE, self.own_state
        found = load_file(path) if path.is_file() else {}
        # A checkpoint has those of all phases.
        weights = {name: w for name, w in found.items() if name.partition(".")[0] in self.own}
        if missing := self.exported.keys() - weights.keys() or weights.keys() - state.keys():
            raise UserError(
                f"{folder}: has no weights of its own for {', '.join(self.own)} "
                f"({min(missing)}); it was trained on another task."
            )
        try:
            fitted = {name: fit(state[name], weight) for name, weight in weights.items()}
            self.own.load_state_dict(fitted, strict=False)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise UserError(f"{path}: is of another model ({reason}).") from error

    def encode(self, inputs: Inputs) -> Tensor:
        """Return the last hidden states at used positions, shape (used, hidden)."""
        return self.family.encode(inputs)

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        """Return the logits of each target, shape (predictions, classes)."""
        shared = cache(lambda: self.encode(batch))
        found: dict[str, Tensor] = {}
        for name, head in self.heads.items():
            if batch.targets.keys() & {name, *head.losses_weights}:
                found |= head.target_logits(self, batch, self._encoded(head, batch, shared))
        return found

    def masked_logits(self, inputs: Inputs) -> Tensor:
        """Return the logits of masked tokens at used positions, as their objective does."""
        masked = (head for head in self.heads.values() if head.head == MASKED)
        head = next(masked, None)
        states_UD = head.encode(self, inputs) if head else self.encode(inputs)
        return self.family.masked_logits(states_UD)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return each objective's loss in nats, summed over the batch's predictions."""
        shared = cache(lambda: self.encode(batch))
        found: dict[str, Tensor] = {}
        for name in batch.targets:
            if name in self.heads:
                head = self.heads[name]
                found |= head.losses(self, batch, self._encoded(head, batch, shared))
        return found

    def _encoded(
        self, head: Head, batch: Batch, shared: Callable[[], Tensor]
    ) -> Callable[[], Tensor]:
        """Return what computes the states from which a head predicts."""
        return partial(head.encode, self, batch) if head.encodes else shared

    def flops(self, batch: Batch) -> float:
        """Return the floating-point operations of one training step on ``batch``.

        These are matrix products only, with two operations a multiply-add and twice the forward
        pass for the backward pass (Kaplan et al. 2020, section 2.1). They include padding, but
        heads only at predicted positions.
        """
        reads = any(
            target.used is not None and not (name in self.heads and self.heads[name].encodes)
            for name, target in batch.targets.items()
        )
        products = self.family.products(batch) if reads else 0.0
        for name in batch.targets:
            if name in self.heads:
                products += self.heads[name].products(self, batch)
        return 3 * 2 * products


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters, shared ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())
