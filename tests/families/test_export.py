"""A model on disk: never half of one, and it loads with its tokenizer."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from bertexp.experiment.prepare import Data
from bertexp.families.checkpoint import export_model


@pytest.fixture
def model(prepared: Callable[..., Data]) -> BertForMaskedLM:
    return BertForMaskedLM(
        BertConfig(
            vocab_size=prepared().tokenizer.vocab_size,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=8,
        )
    )


def mark(model: Any, step: int) -> None:
    with torch.no_grad():
        model.cls.predictions.bias.fill_(step)


def kept(folder: Path) -> dict[str, float]:
    """Return which step's weights lie in each model's folder below."""
    found = sorted(path.parent for path in folder.rglob("model.safetensors"))
    return {
        str(path.relative_to(folder)): BertForMaskedLM.from_pretrained(
            path
        ).cls.predictions.bias[0].item()
        for path in found
    }  # fmt: skip


def test_a_failed_export_leaves_the_old_model_whole(
    model: BertForMaskedLM, prepared: Callable[..., Data], tmp_path: Path
) -> None:
    tokenizer = prepared().tokenizer
    mark(model, 1)
    export_model(model, tokenizer, 128, tmp_path / "model")
    mark(model, 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))  # as good as a full disk
    try:
        with pytest.raises(Exception, match="large"):
            export_model(model, tokenizer, 128, tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert kept(tmp_path) == {"model": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_export_loads_with_its_tokenizer(
    model: BertForMaskedLM, prepared: Callable[..., Data], tmp_path: Path
) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    data = prepared()
    export_model(model.eval(), data.tokenizer, 100, tmp_path / "model")
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    text = " ".join(next(data.corpus.documents("train")).paragraphs)
    ids = tokenizer(text, return_tensors="pt", truncation=True)["input_ids"]
    assert ids.shape == (1, 100)
    expected = [data.tokenizer.opening_id, *data.tokenizer.encode([text])[0][:98]]
    assert ids[0, :99].tolist() == expected
    torch.testing.assert_close(loaded(ids).logits, model(ids).logits)
