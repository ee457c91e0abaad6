"""What is known of a run's data, phases and model: for its plan, its model card, its summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import RenderableType

from bertexp.config import Config
from bertexp.console import aligned, plural, size
from bertexp.data.tokens.unknown import unknown_share
from bertexp.experiment.prepare import Data
from bertexp.families import FAMILIES
from bertexp.masking.config import MaskingConfig
from bertexp.objectives import OBJECTIVES
from bertexp.objectives.audit import Audit, audit
from bertexp.objectives.base import Objective
from bertexp.objectives.config import TaskConfig
from bertexp.objectives.examples import Examples, MaskedExamples
from bertexp.objectives.formats import RowExamples
from bertexp.objectives.learner import Learner
from bertexp.objectives.pair_examples import PairExamples
from bertexp.tracking.base import SafeTracker
from bertexp.training.loop import Phase


def phase_facts(config: Config, objectives: Sequence[Objective], examples: int) -> dict[str, str]:
    task = config.task
    shape = f"{examples:,} examples of up to {task.max_length} tokens{_format(task)}"
    facts = {"task": f"{task.name}: {shape}"}
    if task.masks:
        facts["masking"] = _masking(config.masking)
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
        f"{plural(train.paragraphs, 'paragraph')}, {size(train.characters)}; "
        f"{validation.documents:,} for validation",
        "tokens": f"{len(tokens.tokens):,}, {unknown:.2%} unknown; vocabulary of "
        f"{tokenizer.vocab_size:,} ({config.tokenizer.name})",
    }
    for number, phase in enumerate(phases, start=1):
        share, task = f"{100 * (phase.high - phase.low):g}%", phase.facts["task"]
        others = (f"{key} {fact}" for key, fact in phase.facts.items() if key != "task")
        own = {f"phase {number}": "; ".join((f"{share}, {task}", *others))}
        rows |= own if len(phases) > 1 else phase.facts
    if scored := ", ".join(filter(None, (each.scored for each in data.evaluators))):
        rows["texts"] = scored
    sizes = f"{model.config.num_hidden_layers} layers of {model.config.hidden_size}"
    return rows | {"model": f"{source}: {sizes}{_dropout(model.config)}"}


def audited(phase: Phase, tracker: SafeTracker | None, name: str) -> dict[str, Any]:
    """Return figures of a phase's examples, logged too; warn if the masks are not as configured."""
    layers = [*phase.examples.layers()]
    record: dict[str, Any] = {}
    if isinstance(layers[-1], PairExamples):
        record["pairs"] = layers[-1].shares(epoch=0)
    if isinstance(layers[-1], RowExamples):
        record["rows"] = layers[-1].figures()
    masked = _masked_layer(phase.examples)
    if masked is not None:
        begin, end = phase.masked(0.0), phase.masked(1.0)
        found = _audit(masked, begin)
        stages = [at for at in masked.masker.config.stages if begin < at <= end]
        later = [(at, _audit(masked, at)) for at in stages]
        record["masking"] = asdict(found) | found.figures()
        if later:
            figures = [{"at": at} | asdict(each) | each.figures() for at, each in later]
            record["masking"]["later"] = figures
        if tracker:
            rows = [[name, value] for name, value in found.figures().items()]
            tracker.log_rows(f"masking/audit{name}", ["figure", "value"], rows)
            runs = [[*pair] for pair in found.runs.items()]
            tracker.log_rows(f"masking/runs{name}", ["tokens", "runs"], runs)
        found.warn()
        for at, each in later:
            each.warn(f" at {at:.3g} of the budget")
    return record


def adapted_rates(data: Data, learner: Learner) -> dict[str, dict[str, float]]:
    """Return the rates of the tokens that are masked most and least often, if they have adapted."""
    masked = _masked_layer(data.examples)
    if masked is None or learner.rates is None:
        return {}
    masker = masked.masker.following(learner.rates.table()).at(1.0)
    most, least = masker.strategy.extremes()
    if not most:
        return {}
    names = data.tokenizer.shown
    return {
        name: {names[token]: round(rate, 3) for token, rate in found.items()}
        for name, found in (("most", most), ("least", least))
    }


def shown_rates(adapted: Mapping[str, Mapping[str, float]]) -> list[RenderableType]:
    """Return lines with the rates of frequent tokens, as multiples of that of all tokens."""
    rows = [
        [f"masked {name}", ", ".join(f"{token} {rate:.2f}" for token, rate in found.items())]
        for name, found in adapted.items()
    ]
    return [aligned(rows), ""] if rows else []


def _audit(masked: MaskedExamples, at: float) -> Audit:
    return audit(masked.remasked(lambda masker: masker.at(at)))


def _masked_layer(examples: Examples) -> MaskedExamples | None:
    return next((each for each in examples.layers() if isinstance(each, MaskedExamples)), None)


def _format(config: TaskConfig) -> str:
    if config.format == "blocks":
        return ""
    apart = ", attention within the document" if config.attention == "document" else ""
    return f" ({config.format}{apart})"


def _dropout(architecture: Any) -> str:
    names = FAMILIES[architecture.model_type].dropouts()
    rates = dict.fromkeys(getattr(architecture, name) for name in names)
    return f", dropout {' and '.join(f'{rate:g}' for rate in rates)}" if any(rates) else ""


def _masking(config: MaskingConfig) -> str:
    """Return strategy, rate and replacement, with the changes over the budget."""
    replacements = [
        (at, "/".join(f"{100 * share:g}" for share in (each.mask, each.random, each.keep)))
        for at, each in config.replacements
    ]
    text = f"{_changing(config.strategies)}, {_rate(config)}, replaced {_changing(replacements)}"
    copies = config.copies if config.dynamic else 1
    return text + f", repeated after {plural(copies, 'epoch')}" if copies else text


def _changing(values: Sequence[tuple[float, str]]) -> str:
    return ", ".join(f"from {at:.3g} of the budget on {v}" if at else v for at, v in values)


def _rate(config: MaskingConfig) -> str:
    schedule = config.schedule
    text = f"{config.drawn:.3g}" if isinstance(config.drawn, float) else f"rates {config.drawn}"
    if schedule.end is not None:
        text += f" to {schedule.end:.3g} ({schedule.name})"
    elif schedule.points:
        points = ", ".join(f"{rate:.3g} at {at:.3g}" for at, rate in schedule.points)
        text += f" to {points} of the budget ({schedule.name})"
    if config.corrupt_prob is not None:
        text += f", corrupted {config.corrupt_prob:.3g}"
    return text
