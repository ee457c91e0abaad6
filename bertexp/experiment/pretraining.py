"""Pre-training: a task's objectives on a corpus, evaluated on the frozen bank."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from bertexp import group
from bertexp.config import Config, conf_dir
from bertexp.evaluation.bank import draw_samples, evaluate, example_losses, write_example_losses
from bertexp.evaluation.evaluator import evaluate_fully
from bertexp.experiment.base import Experiment, Final, Prepared
from bertexp.experiment.facts import adapted_rates, audited, facts, phase_facts, shown_rates
from bertexp.experiment.phases import described, phase_configs, sets, shares
from bertexp.experiment.prepare import prepare_data, prepare_examples
from bertexp.experiment.rates import default_rate
from bertexp.experiment.summary import write_summary
from bertexp.families.build import build_model, check_model
from bertexp.objectives import OBJECTIVES
from bertexp.objectives.examples import Examples
from bertexp.objectives.head import Head
from bertexp.objectives.learner import Learner
from bertexp.objectives.samples import Sample
from bertexp.objectives.task import Task
from bertexp.tracking.base import SafeTracker
from bertexp.tracking.identity import NameParts
from bertexp.training.loop import Phase
from bertexp.validation import UserError

# What ``evaluate_untrained`` found, for all jobs of this process.
_untrained: dict[str, dict[str, float]] = {}


class Pretraining(Experiment[Config]):
    """Trains an encoder on the objectives of ``task.*``, perhaps in several phases.

    It is evaluated as its last phase is, from beginning to end.
    """

    def __init__(self, config: Config) -> None:
        self.whole, self.parts = config, phase_configs(config)
        super().__init__(self.parts[-1])
        self.every = config.evaluation.every

    def identity(self) -> NameParts:
        config = self.config
        parts = [] if config.model.pretrained else [config.family.name, config.tokenizer.name]
        if config.task.format != "blocks":
            parts.append(config.task.format)
        if config.task.attention != "row":
            parts.append(config.task.attention)
        masking = config.masking if config.task.masks else None
        task = config.task.name
        if (conf_dir() / "task" / f"{task}.yaml").is_file():
            # An option of ours with other objectives is another task.
            task = "_".join(config.task.objectives)
        if phases := described(self.whole.phases, asdict(self.whole)):
            parts.append(phases.replace(", ", "-").replace(" ", "-"))
        return NameParts(task, config.model.name, masking, tuple(parts))

    def prepare(self, device: torch.device) -> Prepared:
        config = self.config
        length = max(part.task.max_length for part in self.parts)
        # First, to find mistakes before the corpus, which may take long, is prepared.
        heads = frozenset[str]().union(*(part.task.heads for part in self.parts))
        reads_pairs = any(part.task.reads_pairs for part in self.parts)
        compiled = config.hardware.compile is True
        task = " and ".join(dict.fromkeys(f"task={part.task.name}" for part in self.parts))
        found = check_model(
            *(config.family, config.model, heads, length, device, reads_pairs, compiled, task),
            restricts=any(part.task.limits_attention for part in self.parts),
        )
        for name in dict.fromkeys(name for part in self.parts for name in part.task.objectives):
            OBJECTIVES[name].check(found, task, compiled)
            _check_modules(self.parts, name)
        with group.first_before_others():
            self.data = data = prepare_data(config)
            before = [prepare_examples(part, data.tokenizer) for part in self.parts[:-1]]
        self.phases = phases = self._phases([*before, (data.task, data.examples)])
        counts_V = data.tokens["train"].counts(data.tokenizer.vocab_size)
        sizes = (data.tokenizer, length, config.seed, counts_V)
        model = build_model(config.family, config.model, heads, *sizes)
        for evaluator in data.evaluators:
            evaluator.check(model)
        return Prepared(
            model=model,
            tokenizer=data.tokenizer,
            max_length=length,
            heads=data.task.objectives,
            phases=phases,
            fingerprints=data.fingerprints,
            reference=data.reference,
            facts=facts(config, data, model, phases),
            default_rate=default_rate(config.model.pretrained, model.config.hidden_size),
        )

    def _phases(self, written: Sequence[tuple[Task, Examples]]) -> list[Phase]:
        found, entries = [], self.whole.phases or [{}]
        for part, entry, (low, high), (task, examples) in zip(
            self.parts, entries, shares(self.whole), written, strict=True
        ):
            phase = Phase(
                config=part,
                heads=task.objectives,
                weights=task.weights,
                examples=examples,
                predicts_tokens=part.task.masks or any(one.continues for one in task.objectives),
                low=low,
                high=high,
                restarts=sets(entry, "scheduler"),
                restarts_masking=sets(entry, "masking.schedule"),
                facts=phase_facts(part, task.objectives, len(examples)),
            )
            found.append(phase)
        return found

    def describe(self, folder: Path, tracker: SafeTracker | None) -> None:
        if tracker:
            tracker.describe({"fingerprints": self.data.fingerprints})
        several, records = len(self.phases) > 1, []
        for number, phase in enumerate(self.phases, start=1):
            name = f"/phase{number}" if several else ""
            record = audited(phase, tracker, name)
            records.append({"share": phase.high - phase.low, **phase.facts, **record})
        # The last phase's, as they are of a run without phases.
        write_summary(folder, record | ({"phases": records} if several else {}))

    def evaluate(self, learner: Learner, device: torch.device) -> dict[str, float]:
        return evaluate(learner, self.data.bank, device)

    def evaluate_untrained(self, learner: Learner, device: torch.device) -> dict[str, float]:
        """Return ``evaluate``, computed once for the jobs that begin with the same weights."""
        config = self.config
        # On a GPU, evaluating takes hardly longer than reading the weights.
        if config.hardware.sharded or device.type != "cpu":
            return self.evaluate(learner, device)
        digest = hashlib.blake2b()
        for weight in learner.state_dict().values():
            digest.update(weight.contiguous().view(-1).view(torch.uint8).numpy())
        settings = (config.task, config.evaluation, config.hardware, self.data.fingerprints)
        key = f"{digest.hexdigest()} {learner.family.config} {settings}"
        if key not in _untrained:
            _untrained[key] = self.evaluate(learner, device)
        learner.eval()
        return _untrained[key]

    def conclude(self, learner: Learner, folder: Path, device: torch.device) -> Final:
        data = self.data
        found = evaluate_fully(learner, data.bank, data.evaluators, device)
        samples = draw_samples(learner, data.bank, device)
        adapted = adapted_rates(data, learner)
        if group.is_first():
            write_example_losses(folder, example_losses(data.bank, found.predictions))
        return Final(
            metrics=found.metrics,
            summary=data.summary | ({"masking_adapted": adapted} if adapted else {}),
            details=[*data.details(found.metrics), *shown_rates(adapted)],
            samples=[sample.shown() for sample in samples],
            tables=sample_tables(samples)
            | {k: v for each in data.evaluators for k, v in each.tables().items()},
        )


def sample_tables(samples: Sequence[Sample]) -> dict[str, tuple[list[str], list[list[Any]]]]:
    """Return the columns and rows of the samples' tables, by name."""
    tables: dict[str, tuple[list[str], list[list[Any]]]] = {}
    for sample in samples:
        tables.setdefault(sample.table, (sample.columns, []))[1].extend(sample.rows())
    return tables


def _check_modules(configs: Sequence[Config], objective: str) -> None:
    """Raise a ``UserError`` if phases build an objective's modules beside the model differently."""
    own = [
        getattr(each.task, objective, None) for each in configs if objective in each.task.objectives
    ]
    if OBJECTIVES[objective].build is not Head.build and any(keys != own[0] for keys in own):
        raise UserError(
            f"phases: task.{objective}: must be the same in all phases with task={objective}, "
            "which train one module beside the model."
        )
