"""Evaluation of models on frozen examples, the same for every run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bertexp.registry import Registry

if TYPE_CHECKING:
    from bertexp.evaluation.evaluator import Evaluator

# In a run's folder: the loss of every example of the bank.
LOSSES_FILE = "bank_losses.parquet"

EVALUATORS: Registry[type[Evaluator]] = Registry("evaluation.evaluators", "bertexp.evaluation")
