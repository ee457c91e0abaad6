"""Models on disk, in the form that ``from_pretrained`` loads."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.files import sync

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import BertPreTrainedModel


def export_model(
    model: BertPreTrainedModel,
    tokenizer: Tokenizer,
    max_length: int,
    folder: Path,
    weights: dict[str, Tensor] | None = None,
) -> None:
    """Write a model to ``folder``, see ``write_model``.

    It is written beside it and renamed into place: ``folder`` is never half a model.
    """
    partial = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(partial, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_model(model, tokenizer, max_length, partial, weights)
        sync(*partial.iterdir(), partial)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_model(
    model: BertPreTrainedModel,
    tokenizer: Tokenizer,
    max_length: int,
    folder: Path,
    weights: dict[str, Tensor] | None = None,
) -> None:
    """Write weights (safetensors), configuration and tokenizer into ``folder``.

    Args:
        model, tokenizer: what is written.
        max_length: the longest input.
        folder: where to.
        weights: those of the model, where it has only a part of them itself.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # one of "model shards" would cut through the run's own
    model.save_pretrained(folder, state_dict=weights)
    tokenizer.to_transformers(max_length).save_pretrained(folder)
