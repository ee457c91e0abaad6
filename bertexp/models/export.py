"""Models on disk, in the form that ``from_pretrained`` loads."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bertexp.tokens.tokenizer import WordPieceTokenizer

if TYPE_CHECKING:
    from transformers import BertPreTrainedModel

LAST = "model"


def export_model(
    model: BertPreTrainedModel, tokenizer: WordPieceTokenizer, max_length: int, folder: Path
) -> None:
    """Write weights (safetensors), configuration and tokenizer to ``folder``.

    They are written beside it and renamed into place: ``folder`` is never half a model.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # one of "model shards" would cut through the run's own
    partial = folder.with_name(f".{folder.name}-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        model.save_pretrained(partial)
        tokenizer.to_transformers(max_length).save_pretrained(partial)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@dataclass
class Keeper:
    """Keeps two models of a run: the last one in ``model/``, the best in ``checkpoints/``.

    Attributes:
        model: what is trained.
        tokenizer, max_length: what goes with it.
        folder: the run's folder.
        loss, step, best: the lowest evaluation loss so far, when, and the model's folder.
    """

    model: BertPreTrainedModel
    tokenizer: WordPieceTokenizer
    max_length: int
    folder: Path
    loss: float = field(default=math.inf, init=False)
    step: int = field(default=0, init=False)
    best: str | None = field(default=None, init=False)

    def offer(self, loss: float, step: int) -> None:
        """Keep the model in the place of the best before, if its loss is lower."""
        if loss < self.loss:
            self._adopt(loss, step, f"checkpoints/step-{step}")

    def finish(self, loss: float, step: int) -> None:
        """Keep the model as the last one, which may be the best too."""
        self._export(LAST)
        if loss < self.loss:
            self._adopt(loss, step, LAST)

    def _adopt(self, loss: float, step: int, name: str) -> None:
        before, self.loss, self.step, self.best = self.best, loss, step, name
        if name != LAST:
            self._export(name)
        if before:
            shutil.rmtree(self.folder / before)

    def _export(self, name: str) -> None:
        export_model(self.model, self.tokenizer, self.max_length, self.folder / name)
