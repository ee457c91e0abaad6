"""What a run would take, as a dry run reckons it. Read by sweeps before torch is loaded."""

from __future__ import annotations

from dataclasses import dataclass

# A dry run's status in ``summary.json``, and where its plan is there.
PLANNED = "planned"
# Real steps that are measured.
MEASURED = 3
# Of each parameter in float32: the weight; and with it AdamW's two moments.
WEIGHT_BYTES, TRAINED_BYTES = 4, 12


@dataclass(frozen=True)
class Plan:
    """What a run would take on the machine that planned it.

    Attributes:
        parameters: of the model, shared ones once.
        epochs, tokens, flops: after ``steps``; padding is no token. The same for all seeds,
            where examples are: the operations are counted under a seed of the plan's own.
        step_seconds: for a step of the mean number of tokens, by ``MEASURED`` real ones.
        evaluation_seconds: for all evaluations of the bank, by one that was measured. Probes and
            pseudo-perplexity, once at the end, are not among them.
        peak_bytes: the most memory that a process held in these steps and that evaluation; on a
            GPU, that torch held there.
        checkpoint_bytes, checkpoints: of one, and the most that the disk holds.
        step_examples: of all processes.
        sharded: whether each process has only a part of the optimizer's states.
        utilisation: share of the machine's own matrix product that the measured steps reached.
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

    @property
    def seconds(self) -> float:
        return self.steps * self.step_seconds + self.evaluation_seconds

    @property
    def model_bytes(self) -> int:
        return WEIGHT_BYTES * self.parameters

    @property
    def disk_bytes(self) -> int:
        """The size of the run's folder when it is largest."""
        return self.checkpoints * self.checkpoint_bytes + self.model_bytes
