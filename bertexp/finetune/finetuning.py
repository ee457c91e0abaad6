"""Fine-tuning: a pre-trained encoder on labelled data, the best model by validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from bertexp import group
from bertexp.experiment.base import Experiment, Final, Prepared
from bertexp.experiment.rates import fine_tuning_rate
from bertexp.experiment.saved import find_saved
from bertexp.experiment.summary import write_summary
from bertexp.families.architecture import check_compiles
from bertexp.families.base import LABEL
from bertexp.families.checkpoint import load_classifier
from bertexp.finetune.config import FinetuneConfig
from bertexp.finetune.evaluation import evaluate, write_predictions, yardsticks
from bertexp.finetune.labelled import LabelHead, LabelledData, prepare_labelled
from bertexp.finetune.records import write_record
from bertexp.objectives.base import Reference
from bertexp.objectives.learner import Learner
from bertexp.tracking.base import SafeTracker
from bertexp.tracking.identity import NameParts
from bertexp.training.loop import Phase

# The number of labels that the plan names.
MOST_NAMED = 5


class Finetuning(Experiment[FinetuneConfig]):
    """Trains a saved encoder, with a head on its first token, on labelled texts."""

    exports_best = True

    def __init__(self, config: FinetuneConfig) -> None:
        super().__init__(config)
        self.decides = f"eval/{config.finetune.metrics[0]}"
        self.patience = config.finetune.patience
        self.saved = find_saved(str(config.run))

    def identity(self) -> NameParts:
        model = Path(str(self.config.run)).name
        return NameParts(self.config.finetune.name, model, masking=None, job_type="finetune")

    def prepare(self, device: torch.device) -> Prepared:
        labelled, trainer = self.config.finetune, self.config.trainer
        # First, to find mistakes before the data, which may take long, are prepared.
        architecture = self.saved.architecture()
        length = self.saved.max_length(architecture)
        if labelled.max_length:
            length = min(length, labelled.max_length)
        if self.config.hardware.compile is True:
            check_compiles(architecture)
        tokenizer = self.saved.load_tokenizer()
        with group.first_before_others():
            self.data = data = prepare_labelled(labelled, tokenizer, length)
        each_step = trainer.batch_size * trainer.gradient_accumulation_steps
        self.every = labelled.every or -(-len(data.train) // each_step)
        torch.manual_seed(self.config.seed)
        model = load_classifier(self.saved.source, data.labels).train()
        heads = [LabelHead()]
        reference = Reference(
            yardsticks=yardsticks(data, labelled.metrics),
            answered=data.answered,
            fingerprints={LABEL: data.fingerprint},
        )
        return Prepared(
            model=model,
            tokenizer=tokenizer,
            max_length=length,
            heads=heads,
            phases=[Phase(self.config, heads, {LABEL: 1.0}, data.train)],
            fingerprints={"bank": reference.fingerprints},
            reference=reference,
            facts=self._facts(data, model, length),
            default_rate=fine_tuning_rate(architecture.hidden_size),
        )

    def describe(self, folder: Path, tracker: SafeTracker | None) -> None:
        run = str(self.saved.run) if self.saved.run else None
        write_summary(folder, {"parent": {"run": run, "model": self.saved.source}})

    def evaluate(self, learner: Learner, device: torch.device) -> dict[str, float]:
        return evaluate(learner, self.data, self.config.finetune.metrics, device)

    def conclude(self, learner: Learner, folder: Path, device: torch.device) -> Final:
        metrics = self.evaluate(learner, device)
        written = write_predictions(learner, self.data, self.config.finetune, folder, device)
        return Final(metrics=metrics, predictions=written)

    def record(self, folder: Path, final: Final) -> None:
        write_record(self.config, self.saved, folder, final.metrics, self.data)

    def _facts(self, data: LabelledData, model: Any, length: int) -> dict[str, str]:
        task = self.config.finetune
        sizes = " + ".join(f"{len(examples):,}" for examples in data.validation.values())
        named = ", ".join(data.labels[:MOST_NAMED]) + ", …" * (len(data.labels) > MOST_NAMED)
        labels = f"{len(data.labels)} classes ({named})" if data.labels else "scores"
        return {
            "model": f"{self.saved.source} ({model.config.model_type})",
            "task": f"{task.name}: {labels}",
            "examples": f"{len(data.train):,} for training, {sizes} for validation, of up to "
            f"{length} tokens",
            "metrics": ", ".join(task.metrics),
        }
