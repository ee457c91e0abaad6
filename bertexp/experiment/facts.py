"""What a run's plan and model card state about its data, its phases and its model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bertexp.config import Config
from bertexp.console import plural
from bertexp.data.tokens.unknown import unknown_share
from bertexp.experiment.prepare import Data
from bertexp.families import FAMILIES
from bertexp.masking.wording import in_words
from bertexp.objectives import OBJECTIVES
from bertexp.objectives.base import Objective
from bertexp.objectives.config import TaskConfig
from bertexp.training.phase import Phase


def phase_facts(config: Config, objectives: Sequence[Objective], examples: int) -> dict[str, str]:
    task = config.task
    shape = f"{examples:,} examples of up to {task.max_length} tokens{_format(task)}"
    facts = {"task": f"{task.name}: {shape}"}
    if task.masks:
        facts["masking"] = in_words(config.masking)
    reads_loss = any("task.loss" in OBJECTIVES.reads(name) for name in task.objectives)
    if task.loss.changed and reads_loss:
        facts["loss"] = f"cross-entropy with {', '.join(task.loss.changed)}"
    for objective in objectives:
        facts |= objective.facts
    return facts


def facts(config: Config, data: Data, model: Any, phases: Sequence[Phase]) -> dict[str, str]:
    train, validation = data.corpus.sizes["train"], data.corpus.sizes["validation"]
    kind = model.config.model_type
    scratch = f"{config.model.name} {kind}, from scratch"
    source = f"{config.model.pretrained} ({kind})" if config.model.pretrained else scratch
    tokens, tokenizer = data.tokens["train"], data.tokenizer
    unknown = unknown_share(tokens.counts(tokenizer.vocab_size), tokenizer)
    rows = {
        "corpus": f"{config.dataset.name}{f' ({data.corpus.source})' * bool(data.corpus.source)}"
        f"{', streamed; its head' * config.dataset.streaming}: "
        f"{plural(train.documents, 'document')}{', parts of one,' * data.corpus.parted} of "
        f"{plural(train.paragraphs, 'paragraph')}, {train.characters / 1e6:.1f} MB; "
        f"{validation.documents:,} for validation",
        "tokens": f"{len(tokens.tokens):,}, {unknown:.2%} unknown; vocabulary of "
        f"{tokenizer.vocab_size:,} ({config.tokenizer.name})",
    }
    for number, phase in enumerate(phases, start=1):
        share, task = f"{100 * (phase.high - phase.low):g}%", phase.facts["task"]
        others = (f"{key} {fact}" for key, fact in phase.facts.items() if key != "task")
        own = {f"phase {number}": "; ".join((f"{share}, {task}", *others))}
        rows |= own if len(phases) > 1 else phase.facts
    sizes = f"{model.config.num_hidden_layers} layers of {model.config.hidden_size}"
    return rows | {"model": f"{source}: {sizes}{_dropout(model.config)}"}


def _format(config: TaskConfig) -> str:
    if config.format == "blocks":
        return ""
    apart = ", attention within the document" if config.attention == "document" else ""
    return f" ({config.format}{apart})"


def _dropout(architecture: Any) -> str:
    names = FAMILIES[architecture.model_type].dropouts()
    rates = dict.fromkeys(getattr(architecture, name) for name in names)
    return f", dropout {' and '.join(f'{rate:g}' for rate in rates)}" if any(rates) else ""
