"""The models a run keeps: the best and the last, and never half of one."""

from __future__ import annotations

import math
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from bertexp.data import Data
from bertexp.models.export import Keeper, export_model


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
    """Return which step's weights lie in each model's folder of a run."""
    found = sorted(path.parent for path in folder.rglob("model.safetensors"))
    return {
        str(path.relative_to(folder)): BertForMaskedLM.from_pretrained(
            path
        ).cls.predictions.bias[0].item()
        for path in found
    }  # fmt: skip


@pytest.mark.parametrize(
    ("losses", "expected", "best"),
    [
        ([3.0, 1.0, 2.0], {"checkpoints/step-2": 2, "model": 3}, "checkpoints/step-2"),
        ([3.0, 2.0, 1.0], {"model": 3}, "model"),
        ([1.0, 2.0, 3.0], {"checkpoints/step-1": 1, "model": 3}, "checkpoints/step-1"),
        ([2.0], {"model": 1}, "model"),
        ([2.0, math.nan, math.nan], {"checkpoints/step-1": 1, "model": 3}, "checkpoints/step-1"),
        ([math.nan, math.nan], {"model": 2}, None),
    ],
)
def test_the_best_and_the_last_are_kept(
    model: BertForMaskedLM, prepared: Callable[..., Data], tmp_path: Path,
    losses: list[float], expected: dict[str, float], best: str | None,
) -> None:  # fmt: skip
    keeper = Keeper(model, prepared().tokenizer, 128, tmp_path)
    for step, loss in enumerate(losses, start=1):
        mark(model, step)
        (keeper.finish if step == len(losses) else keeper.offer)(loss, step)
    assert kept(tmp_path) == expected
    assert keeper.best == best
    if best:
        assert keeper.loss == min(loss for loss in losses if not math.isnan(loss))
        assert losses[keeper.step - 1] == keeper.loss


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
    expected = [data.tokenizer.cls_id, *data.tokenizer.encode([text])[0][:98]]
    assert ids[0, :99].tolist() == expected
    torch.testing.assert_close(loaded(ids).logits, model(ids).logits)
