"""The notebook's two runs, with a small model on real text."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders import summary

from bertexp.config import Config, conf_dir
from bertexp.experiment.prepare import prepare_data
from bertexp.objectives.examples import MaskedExamples
from bertexp.objectives.pair_examples import PairExamples

SMALL = (
    *("model=tiny", "model.hidden_size=32", "model.intermediate_size=64"),
    "model.initialization=bert",
    *("dataset.max_documents=12", "dataset.validation_fraction=0.2"),
    "evaluation.probes=[]",
    *("evaluation.max_examples=16", "evaluation.every=null"),
    *("tracker=none", "hardware.threads=1"),
)


@pytest.fixture
def offline(real_text: Path, real_vocabulary: Path) -> tuple[str, ...]:
    """What takes the place of the Hub."""
    return (
        *("dataset=text", f"dataset.files=[{real_text}]"),
        *("tokenizer=pretrained", f"tokenizer.path={real_vocabulary}", "optimizer.lr=5e-5", *SMALL),
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A cache in which the default corpus is prepared once."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("task", ["mlm", "nsp"])
def test_without_the_hub_what_the_file_advises_works(
    command: Callable[..., Any], cache: str, task: str
) -> None:
    text = (conf_dir() / "experiment" / f"notebook_{task}.yaml").read_text()
    (advice,) = re.findall(r"python -m bertexp (.*)\\\n# +(.*)", text)
    done = command(*" ".join(advice).split(), "+size=smoke", "tracker=none", BERTEXP_CACHE=cache)
    assert done.code == 0, done.output + done.errors
    away = command(f"+experiment=notebook_{task}", "tracker=none")
    assert away.code == 1
    assert "type model=tiny tokenizer=wordpiece" in away.lines[-1]


@pytest.mark.parametrize("task", ["mlm", "nsp"])
def test_the_notebooks_runs_run(
    command: Callable[..., Any], offline: tuple[str, ...], task: str
) -> None:
    # All but the number of steps is the notebook's.
    scored = ["evaluation.pseudo_perplexity=5"] if task == "mlm" else []
    done = command(f"+experiment=notebook_{task}", *offline, *scored, "trainer.max_steps=12")
    assert done.code == 0, done.output + done.errors
    (run,) = done.folder.glob("outputs/*/*")
    found = summary(run)
    assert found["status"] == "finished"
    assert found["budget"]["step"] == 12
    loss = {"mlm": np.log(30522), "nsp": np.log(2)}[task]
    assert found["train_loss"] == pytest.approx(loss, abs=0.3)


@pytest.mark.parametrize("task", ["mlm", "nsp"])
def test_the_notebooks_model_and_corpus_are_chosen(
    experiment_config: Callable[..., Config], task: str
) -> None:
    config = experiment_config(f"+experiment=notebook_{task}")
    assert config.model.pretrained == config.tokenizer.path == "bert-base-uncased"
    assert config.dataset.name == "wikitext2"
    chosen = ("model=pretrained", "model.pretrained=bert-base-uncased", "dataset=wikitext2")
    same = experiment_config(f"+experiment=notebook_{task}", *chosen)
    assert replace(same.model, name="") == replace(config.model, name="")
    # The defaults of transformers' TrainingArguments, and what the notebook gave it.
    from transformers import TrainingArguments

    theirs = TrainingArguments(per_device_train_batch_size=16, num_train_epochs=10)
    trainer, optimizer = config.trainer, config.optimizer
    assert trainer.batch_size == theirs.per_device_train_batch_size
    assert trainer.epochs == theirs.num_train_epochs
    assert trainer.gradient_clip == theirs.max_grad_norm
    assert trainer.gradient_accumulation_steps == theirs.gradient_accumulation_steps
    assert optimizer.lr == theirs.learning_rate
    assert optimizer.betas == [theirs.adam_beta1, theirs.adam_beta2]
    assert optimizer.eps == theirs.adam_epsilon
    assert optimizer.weight_decay == theirs.weight_decay
    assert config.scheduler.name == theirs.lr_scheduler_type
    assert config.scheduler.warmup == theirs.warmup_steps == 0


@pytest.fixture
def examples(
    experiment_config: Callable[..., Config], offline: tuple[str, ...], empty_cache: Path
) -> Callable[..., Any]:
    def prepare(task: str, *overrides: str) -> Any:
        return prepare_data(
            experiment_config(f"+experiment=notebook_{task}", *offline, *overrides)
        ).examples

    return prepare


def test_each_way_of_the_notebook_can_be_brought_back(examples: Callable[..., Any]) -> None:
    ids = np.arange(16)

    def masked(*overrides: str) -> tuple[MaskedExamples, Any]:
        found = examples("mlm", *overrides)
        return found, found.batch(0, ids)

    found, batch = masked()
    truth = found.unmasked(ids)
    assert len(batch.targets["mlm"].labels_N) / batch.maskable == pytest.approx(0.15, abs=0.03)
    assert (found.batch(3, ids).input_ids_BL == batch.input_ids_BL).all(), "masked once"
    special = found.masker.tokenizer.is_special_V
    replaced = batch.input_ids_BL.numpy()[batch.input_ids_BL.numpy() != truth]
    assert set(replaced[special[replaced]]) == {103}

    # Labels are a copy of the whole text, masked or not.
    found, everything = masked("masking.prob=1", "masking.corrupt_prob=0.15")
    assert len(everything.targets["mlm"].labels_N) == everything.maskable == batch.maskable
    changed = (everything.input_ids_BL.numpy() != truth).sum()
    assert changed / everything.maskable == pytest.approx(0.15 * 0.9, abs=0.03)

    # Random tokens are any, once in 6,000 times one of the five special ones.
    found, _ = masked("masking.dynamic=true", "masking.replace.special=true",
                      "masking.replace.mask=0", "masking.replace.random=1",
                      "masking.replace.keep=0", "masking.prob=0.9")  # fmt: skip
    drawn = np.stack([found.batch(epoch, ids).input_ids_BL.numpy() for epoch in range(60)])
    assert special[drawn[drawn != truth]].any()

    wide = examples("nsp", "task.pad_to=512").batch(0, ids)
    assert wide.input_ids_BL.shape == (16, 512)


def test_the_notebooks_bag_can_return_the_true_next_sentence(
    examples: Callable[..., Any],
) -> None:
    def true_ones(found: PairExamples) -> int:
        count = 0
        for seed_epoch in range(200):
            pairs = found.drawer._draw(seed_epoch)
            count += int(((pairs.kinds > 0) & (
                pairs.second_sentences == pairs.first_sentences + 1)).sum())  # fmt: skip
        return count

    ours, theirs = examples("nsp"), examples("nsp", "task.negatives=any_sentence_or_next")
    assert true_ones(ours) == 0
    assert true_ones(theirs) > 0
    assert ours.shares(0)["next"] == pytest.approx(0.5, abs=1 / len(ours))
    pairs = [ours.batch(epoch, np.arange(16)).input_ids_BL for epoch in (0, 5)]
    assert (pairs[0] == pairs[1]).all(), "drawn once"
