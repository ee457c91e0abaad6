"""The subject of inspection: a model and its tokenizer, a text, and the folder of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.text import Text
from torch import Tensor

from bertexp.config import parse
from bertexp.console import short_path
from bertexp.data.tokens.inputs import ModelInput
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.experiment.prepare import prepare_tokenizer
from bertexp.experiment.resuming import as_recorded
from bertexp.experiment.saved import Saved, find_saved
from bertexp.families import FAMILIES
from bertexp.families.architecture import read_architecture
from bertexp.families.base import Family
from bertexp.families.build import build_model, build_skeleton
from bertexp.inspect.config import InspectConfig
from bertexp.objectives.task import Task
from bertexp.training.setup import choose_device
from bertexp.unread import COMMAND_LINE, refuse_unread, written_keys

# The default text.
EXAMPLE = "I love NLP!"


class Subject:
    """A configured or ``saved`` model; each part is prepared when it is first needed."""

    @classmethod
    def of(cls, composed: DictConfig, overrides: Sequence[str]) -> Subject:
        """Return the subject of a configuration, which a run's own replaces where one is named.

        Args:
            overrides: those that it was composed with.
        """
        saved = find_saved(composed.run) if composed.run else None
        if saved and saved.run:
            composed = as_recorded(composed, saved.run, overrides)
        subject = cls(parse(composed, InspectConfig), saved)
        named = dict.fromkeys(written_keys(overrides), COMMAND_LINE)
        own = ("family", "model", "tokenizer") if saved else ()
        refuse_unread(named, composed, InspectConfig, own)
        return subject

    def __init__(self, config: InspectConfig, saved: Saved | None) -> None:
        self.config = config
        self.saved = saved
        self.files: list[Path] = []

    @property
    def name(self) -> str:
        if self.saved:
            return str(short_path(self.saved.source)) if self.saved.run else self.saved.source
        return self.config.model.pretrained or f"{self.config.model.name}, untrained"

    def title(self, text: str) -> Text:
        return Text(f"{text} · {self.name}\n", "bold")

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return self.saved.load_tokenizer() if self.saved else prepare_tokenizer(self.config)

    @cached_property
    def model(self) -> Any:
        if self.saved:
            return self.saved.load_model()
        config = self.config
        heads, length = config.task.heads, config.task.max_length
        return build_model(
            config.family, config.model, heads, self.tokenizer, length, config.seed
        ).eval()

    @cached_property
    def skeleton(self) -> Any:
        """The model, perhaps without weights: from scratch this needs no corpus."""
        config = self.config
        if self.saved or config.model.pretrained:
            return self.model
        trains_vocabulary = config.tokenizer.name != "pretrained"
        size = config.tokenizer.vocab_size if trains_vocabulary else self.tokenizer.vocab_size
        return build_skeleton(config.family, config.model, config.task.heads, size)

    @property
    def architecture(self) -> Any:
        """The configuration of ``transformers``, from scratch with another vocabulary."""
        if self.saved:
            return self.saved.architecture()
        sizes = self.config.model
        if sizes.pretrained:
            return read_architecture(sizes.pretrained)
        return FAMILIES[self.config.family.name].describe(sizes, vocab_size=1, pad_id=0)

    @property
    def segments(self) -> int:
        """The number of segments that the model distinguishes."""
        found = self.architecture
        return FAMILIES[found.model_type].segments(found)

    @property
    def max_length(self) -> int:
        if self.saved:
            return self.saved.max_length(self.architecture)
        return self.config.task.max_length

    @cached_property
    def input(self) -> ModelInput:
        """The text or texts as the model's input."""
        text = EXAMPLE if self.config.text is None else self.config.text
        return ModelInput.of(self.tokenizer, text, self.config.text_b)

    @cached_property
    def is_causal(self) -> bool:
        """Whether attention is causal where the task predicts."""
        if self.saved:
            objectives = self.saved.objectives(self.tokenizer)
        else:
            config = self.config
            task = Task.of(config.task, self.tokenizer, config.masking, config.seed)
            objectives = task.objectives
        return any(each.is_causal for each in objectives)

    @torch.no_grad()
    def read(self, wanted: str, *, is_causal: bool = False) -> tuple[Tensor, ...]:
        """Return ``hidden_states`` or ``attentions`` of the text, one tensor a layer."""
        self.input.check_length(self.max_length)
        device = choose_device(self.config.hardware.device)
        model: Any = self.model
        # Other implementations do not return attention weights.
        model.set_attn_implementation("eager")
        family = Family.of(model.to(device))
        ids_1L, types_1L = torch.tensor([[self.input.ids], [self.input.segments]], device=device)
        length = ids_1L.shape[1]
        earlier_LL = torch.ones((length, length), dtype=torch.bool, device=device).tril()
        mask = family.mask(earlier_LL[None, None]) if is_causal else None
        arguments = family.arguments(ids_1L, mask, types_1L)
        output = family.base(**arguments, **{f"output_{wanted}": True})
        model.cpu()
        return tuple(state.cpu() for state in output[wanted])

    def file(self, name: str) -> Path:
        """Return the path of a file in the output folder, which is created; it is printed later."""
        folder = Path(self.config.output)
        folder.mkdir(parents=True, exist_ok=True)
        self.files.append(folder / name)
        return folder / name
