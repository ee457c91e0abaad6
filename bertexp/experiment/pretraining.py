"""Pre-training: a task's objectives on a corpus, evaluated on the frozen bank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import RenderableType

from bertexp import group
from bertexp.config import Config
from bertexp.console import plural
from bertexp.data.tokens.unknown import unknown_share
from bertexp.evaluation.bank import draw_samples, evaluate, example_losses, write_example_losses
from bertexp.evaluation.evaluator import evaluate_fully
from bertexp.experiment.base import Experiment, Final, Prepared
from bertexp.experiment.prepare import Data, prepare_data
from bertexp.experiment.rates import default_rate
from bertexp.experiment.summary import write_summary
from bertexp.families import FAMILIES
from bertexp.families.build import build_model, check_model
from bertexp.masking.audit import audit
from bertexp.masking.config import MaskingConfig
from bertexp.objectives import OBJECTIVES
from bertexp.objectives.config import TaskConfig
from bertexp.objectives.examples import MaskedExamples
from bertexp.objectives.learner import Learner
from bertexp.objectives.packing import RowExamples
from bertexp.objectives.samples import Sample
from bertexp.pairs.examples import PairExamples
from bertexp.tracking.base import SafeTracker


class Pretraining(Experiment[Config]):
    """Trains an encoder on the objectives of ``task.*``."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.every = config.evaluation.every
        if config.task.masks:
            self.mask_rate = config.masking.rate

    def identity(self) -> dict[str, Any]:
        config = self.config
        parts = [] if config.model.pretrained else [config.family.name, config.tokenizer.name]
        if config.task.format != "blocks":
            parts.append(config.task.format)
        if config.task.attention != "row":
            parts.append(config.task.attention)
        masking = config.masking if self.mask_rate else None
        known = {"task": config.task.name, "model": config.model.name, "masking": masking}
        return known | {"parts": parts}

    def prepare(self, device: torch.device) -> Prepared:
        config, length = self.config, self.config.task.max_length
        # First, to find mistakes before the corpus, which may take long, is prepared.
        heads, reads_pairs = config.task.heads, config.task.reads_pairs
        compiled = config.hardware.compile
        task = f"task={config.task.name}"
        found = check_model(
            *(config.family, config.model, heads, length, device, reads_pairs, compiled, task),
            restricts=config.task.limits_attention,
        )
        for name in config.task.objectives:
            OBJECTIVES[name].check(found, task, compiled)
        with group.first_before_others():
            self.data = data = prepare_data(config)
        model = build_model(config.family, config.model, heads, data.tokenizer, length, config.seed)
        for evaluator in data.evaluators:
            evaluator.check(model)
        return Prepared(
            model=model,
            tokenizer=data.tokenizer,
            max_length=length,
            heads=data.task.objectives,
            weights=data.task.weights,
            examples=data.examples,
            fingerprints=fingerprints(data),
            yardsticks=yardsticks(data),
            answered=answered(data),
            facts=_facts(config, data, model),
            default_rate=default_rate(config.model.pretrained, model.config.hidden_size),
        )

    def describe(self, folder: Path, tracker: SafeTracker | None) -> None:
        if tracker:
            tracker.describe({"fingerprints": fingerprints(self.data)})
        layers = [*self.data.examples.layers()]
        if isinstance(layers[-1], PairExamples):
            write_summary(folder, {"pairs": layers[-1].shares(epoch=0)})
        if isinstance(layers[-1], RowExamples):
            write_summary(folder, {"rows": layers[-1].figures()})
        masked = next((each for each in layers if isinstance(each, MaskedExamples)), None)
        if masked is None:
            return
        found = audit(masked)
        write_summary(folder, {"masking": asdict(found) | found.figures()})
        if tracker:
            rows = [[name, value] for name, value in found.figures().items()]
            tracker.log_rows("masking/audit", ["figure", "value"], rows)
            runs = [[*pair] for pair in found.runs.items()]
            tracker.log_rows("masking/runs", ["tokens", "runs"], runs)
        found.warn()

    def evaluate(self, learner: Learner, device: torch.device) -> dict[str, float]:
        return evaluate(learner, self.data.bank, device)

    def conclude(self, learner: Learner, folder: Path, device: torch.device) -> Final:
        data = self.data
        found = evaluate_fully(learner, data.bank, data.evaluators, device)
        samples = draw_samples(learner, data.bank, device)
        pictures = []
        if group.is_first():
            write_example_losses(folder, example_losses(data.bank, found.predictions))
            pictures = [path for each in data.evaluators for path in each.draw(folder)]
        return Final(
            metrics=found.metrics,
            summary={k: v for each in data.evaluators for k, v in each.details().items()},
            optimum=data.optimum,
            details=details(data, found.metrics),
            samples=[sample.shown() for sample in samples],
            tables=sample_tables(samples),
            pictures=pictures,
        )


def fingerprints(data: Data) -> dict[str, Any]:
    """Return the fingerprints of a run's data."""
    bank = data.bank.fingerprints
    for evaluator in data.evaluators:
        bank |= evaluator.fingerprints()
    return {
        "corpus": data.corpus.fingerprint,
        "tokenizer": data.tokenizer.fingerprint,
        "tokens": data.tokens["train"].fingerprint,
        "bank": bank,
    }


def answered(data: Data) -> dict[str, int]:
    """Return, by accuracy, its number of independent examples."""
    found = data.bank.answered
    for evaluator in data.evaluators:
        found |= evaluator.answered()
    return found


def yardsticks(data: Data) -> dict[str, float]:
    """Return what can be reached without looking at the input, by the metric's name."""
    found = data.bank.yardsticks
    for evaluator in data.evaluators:
        found |= evaluator.yardsticks()
    return found


def details(data: Data, metrics: Mapping[str, float]) -> list[RenderableType]:
    """Return the lines below the table of results."""
    evaluators = [part for each in data.evaluators for part in each.shown()]
    return [*data.bank.details(metrics), *evaluators]


def sample_tables(samples: Sequence[Sample]) -> dict[str, tuple[list[str], list[list[Any]]]]:
    """Return the columns and rows of the samples' tables, by name."""
    tables: dict[str, tuple[list[str], list[list[Any]]]] = {}
    for sample in samples:
        tables.setdefault(sample.table, (sample.columns, []))[1].extend(sample.rows())
    return tables


def _facts(config: Config, data: Data, model: Any) -> dict[str, str]:
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
        "task": f"{config.task.name}: {len(data.examples):,} examples of up to "
        f"{config.task.max_length} tokens{_format(config.task)}",
    }
    if config.task.masks:
        replace = config.masking.replace
        shares = "/".join(f"{100 * s:g}" for s in (replace.mask, replace.random, replace.keep))
        rows["masking"] = f"{config.masking.strategy}, {_rate(config.masking)}, replaced {shares}"
    if config.task.loss.changed:
        rows["loss"] = f"cross-entropy with {', '.join(config.task.loss.changed)}"
    for objective in data.task.objectives:
        rows |= objective.facts
    sizes = f"{model.config.num_hidden_layers} layers of {model.config.hidden_size}"
    return rows | {"model": f"{source}: {sizes}{_dropout(model.config)}"}


def _format(config: TaskConfig) -> str:
    if config.format == "blocks":
        return ""
    apart = ", attention within the document" if config.attention == "document" else ""
    return f" ({config.format}{apart})"


def _rate(config: MaskingConfig) -> str:
    text = f"{config.drawn:.3g}" if isinstance(config.drawn, float) else f"rates {config.drawn}"
    if config.schedule.end is not None:
        text += f" to {config.schedule.end:.3g} ({config.schedule.name})"
    if config.corrupt_prob is not None:
        text += f", corrupted {config.corrupt_prob:.3g}"
    return text


def _dropout(architecture: Any) -> str:
    names = FAMILIES[architecture.model_type].dropouts()
    rates = dict.fromkeys(getattr(architecture, name) for name in names)
    return f", dropout {' and '.join(f'{rate:g}' for rate in rates)}" if any(rates) else ""
