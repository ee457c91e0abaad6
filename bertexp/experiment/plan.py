"""The cost of a run, as a dry run estimates it; sweeps read it before torch is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# A dry run's status in ``summary.json``, and the key of its plan.
PLANNED = "planned"
# The number of real steps that are measured.
MEASURED = 3
# For each parameter in float32: its weight, and the weight with AdamW's two moments.
WEIGHT_BYTES, TRAINED_BYTES = 4, 12


@dataclass(frozen=True)
class Part:
    """The cost of one phase, see ``Plan``."""

    steps: int
    epochs: float
    tokens: float
    flops: float
    step_seconds: float


@dataclass(frozen=True)
class Plan:
    """The cost of a run on the machine that planned it.

    Attributes:
        parameters: of the model, shared ones counted once.
        epochs, tokens, flops: after ``steps``, without padding. They are the same for all seeds if
            the examples are: operations are counted under a fixed seed.
        step_seconds: of a step with the mean number of tokens, from ``MEASURED`` real ones.
        evaluation_seconds: of all evaluations of the bank, from one that was measured; without
            probes and pseudo-perplexity, which are measured once at the end.
        peak_bytes: the peak memory of a process in these steps and this evaluation; of torch on a
            GPU.
        checkpoint_bytes, checkpoints: the size of one, and the most on disk at a time.
        step_examples: of all processes together.
        sharded: whether each process holds only a part of the optimizer's states.
        utilisation: the speed of the measured steps relative to the machine's matrix product.
        phases: the values of each phase's ``Part``.
    """

    parameters: int
    steps: int
    epochs: float
    tokens: float
    flops: float
    step_seconds: float
    evaluation_seconds: float
    peak_bytes: int
    checkpoint_bytes: int
    checkpoints: int
    processes: int
    step_examples: int
    sharded: bool
    utilisation: float
    phases: list[dict[str, Any]]

    @property
    def seconds(self) -> float:
        return self.steps * self.step_seconds + self.evaluation_seconds

    @property
    def model_bytes(self) -> int:
        return WEIGHT_BYTES * self.parameters

    @property
    def disk_bytes(self) -> int:
        """The largest size of the run's folder."""
        return self.checkpoints * self.checkpoint_bytes + self.model_bytes
