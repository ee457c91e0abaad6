"""Data whose words are cut into pieces, and untrained models for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bertexp.config import Config
from bertexp.experiment.prepare import Data
from bertexp.families.build import build_model
from bertexp.families.checkpoint import MODEL_CLASSES


@pytest.fixture(scope="session")
def cut_words(prepared: Callable[..., Data]) -> Callable[..., Data]:
    """Return a function that prepares a corpus with a vocabulary too small for its words."""

    def prepare(*overrides: str) -> Data:
        return prepared("tokenizer.vocab_size=96", *overrides)

    return prepare


@pytest.fixture(scope="session")
def untrained(experiment_config: Callable[..., Config]) -> Callable[..., Any]:
    """Return a function that builds a model whose answers are spread out, with dropout."""

    def build(data: Data, model_class: str | None = None) -> Any:
        config = experiment_config(
            *("model.hidden_size=32", "model.intermediate_size=64", "model.dropout=0.5"),
            "model.initializer_range=0.5",
        )
        named = {name: heads for heads, name in MODEL_CLASSES.items()}
        heads = named[model_class] if model_class else data.task.heads
        return build_model(config.model, heads, data.tokenizer, 128, 0)

    return build
