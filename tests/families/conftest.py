"""Small models that the tests of models share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bertexp.config import Config
from bertexp.experiment.prepare import Data
from bertexp.families.build import build_model
from bertexp.families.checkpoint import MODEL_CLASSES


@pytest.fixture(scope="session")
def small_model(
    experiment_config: Callable[..., Config], prepared: Callable[..., Data]
) -> Callable[..., Any]:
    """Return a function that builds a model of a few thousand parameters, without dropout."""

    def build(model_class: str, *overrides: str, seed: int = 0) -> Any:
        sizes = ("model.hidden_size=32", "model.intermediate_size=64", "model.dropout=0")
        config = experiment_config(*sizes, *overrides)
        tokenizer = prepared().tokenizer
        heads = next(heads for heads, name in MODEL_CLASSES.items() if name == model_class)
        return build_model(config.model, heads, tokenizer, config.task.max_length, seed)

    return build
