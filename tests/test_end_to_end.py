"""Whole experiments by the command that users type, and what they leave behind."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from folders import rows, summary, untimed
from omegaconf import OmegaConf
from safetensors.torch import load_file

from bertexp.config import Config
from bertexp.experiment.prepare import prepare_data

SMALL = (
    *("dataset=synthetic", "dataset.synthetic.documents=60", "tokenizer.vocab_size=512"),
    *("model.hidden_size=32", "model.intermediate_size=64", "model.dropout=0.1"),
    *("trainer.max_steps=20", "trainer.batch_size=8", "trainer.log_every=5"),
    "evaluation.probes=[]",
    *("evaluation.every=8", "evaluation.max_examples=16", "hardware.threads=1"),
)
MLM = ("masking.prob=0.2", "seed=3", "tracker.mode=offline", "tracker.tags=[mine]")


def run_folder(done: Any) -> Path:
    (folder,) = (done.folder / "outputs").glob("20*-*-*/*")
    return folder


@pytest.fixture(scope="session")
def tracked(leet: Callable[..., str]) -> Callable[..., str]:
    """Return a function that returns what W&B's own reader finds in a run's offline file."""

    def read(done: Any, *options: str) -> str:
        (file,) = (done.folder / "outputs" / "wandb").glob("offline-run-*/*.wandb")
        return leet(file, *options)

    return read


@pytest.fixture(scope="session")
def mlm(command: Callable[..., Any]) -> Any:
    """One masked-language-modelling experiment, tracked offline."""
    done = command(*SMALL, *MLM)
    assert done.code == 0, done.output + done.errors
    return done


@pytest.mark.fast
def test_a_run_leaves_its_record(mlm: Any) -> None:
    run = run_folder(mlm)
    assert {path.name for path in run.iterdir()} >= {
        *(".hydra", "bertexp.log", "metrics.jsonl", "summary.json", "model", "bank_losses.parquet"),
    }
    written = {path.name for path in (run / "model").iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= written
    composed = OmegaConf.load(run / ".hydra" / "config.yaml")
    assert (composed.masking.prob, composed.seed, composed.model.hidden_size) == (0.2, 3, 32)
    assert "Traceback" not in (run / "bertexp.log").read_text()
    left = {path.name for path in run.rglob("*") if path.name.startswith(".")}
    assert left == {".hydra", ".lock"}, "a half-written file was left behind"
    # What fills shorter examples up to the longest is not among the samples.
    assert "[PAD]" not in mlm.output


def test_the_summary_has_the_metrics_and_what_was_spent(mlm: Any) -> None:
    found, lines = summary(run_folder(mlm)), rows(run_folder(mlm))
    assert found["status"] == "finished"
    losses = [row["train/loss"] for row in lines if "train/loss" in row]
    assert found["train_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert found["metrics"] == {k: value for k, value in lines[-1].items() if k.startswith("eval/")}
    spent = found["budget"]
    assert spent["step"] == 20
    for name in ("tokens", "predicted_tokens", "seconds", "flops"):
        assert lines[-1][f"train/{name}"] == spent[name]
    # The rest of TrainOutput's metrics in transformers.
    runtime = found["train_runtime"]
    assert found["train_steps_per_second"] * runtime == pytest.approx(20)
    assert found["train_samples_per_second"] * runtime == pytest.approx(spent["examples"])
    assert found["total_flos"] > 0 and found["epoch"] > 1
    seconds = dict(found["seconds"])
    total = seconds.pop("total")
    # The rest is the model's making, the warm-up, the audit and the report.
    assert sum(seconds.values()) < total
    assert set(seconds) == {"preparation", "training", "evaluation", "checkpoints", "tracking"}
    assert seconds["training"] == spent["seconds"]
    assert min(seconds.values()) > 0
    assert set(found["fingerprints"]) >= {"corpus", "tokenizer"}
    assert found["versions"]["torch"] == torch.__version__
    assert "git_commit" in found["versions"]
    assert re.fullmatch(r"mlm-p0\.20-s3-[0-9a-f]{8}", found["tracker_id"])


def test_metrics_have_their_promised_names(mlm: Any) -> None:
    lines = rows(run_folder(mlm))
    train = [row for row in lines if "train/loss" in row]
    evaluated = [row for row in lines if "eval/loss" in row]
    assert [row["step"] for row in train] == [5, 10, 15, 20]
    assert [row["step"] for row in evaluated] == [0, 8, 16, 20]
    for row in train:
        assert row.keys() >= {
            *("train/loss", "train/learning_rate", "train/grad_norm"),
            *("train/tokens_per_second", "train/mfu", "train/masked_fraction"),
        }
        assert row["train/masked_fraction"] == pytest.approx(0.2, abs=0.02)
    for row in evaluated:
        assert row.keys() >= {
            *("step", "eval/loss", "eval/accuracy", "eval/perplexity"),
            *("eval/loss@0.15", "eval/loss@0.4", "eval/loss@rare", "eval/loss@words"),
        }
        assert row["eval/perplexity"] == pytest.approx(math.exp(row["eval/loss"]))
    scored = [row["step"] for row in lines if "eval/pseudo_perplexity" in row]
    assert scored == [20], "only at the end"
    # A new model knows nothing, and learns from its first steps which words are common.
    assert train[0]["train/loss"] > train[-1]["train/loss"]
    assert evaluated[0]["eval/loss"] > evaluated[-1]["eval/loss"]


def test_the_model_loads_anywhere_and_gives_the_loss_reported(
    mlm: Any, experiment_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    run = run_folder(mlm)
    model = AutoModelForMaskedLM.from_pretrained(run / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    monkeypatch.setenv("BERTEXP_CACHE", str(mlm.cache))
    # Another seed and rate: the bank is the same.
    data = prepare_data(experiment_config(*SMALL, "seed=9", "masking.prob=0.7"))
    loss = count = 0.0
    with torch.no_grad():
        for batch in data.bank.all_sets[0].batches:
            labels = torch.full((batch.input_ids_BL.numel(),), -100)
            labels[batch.targets["mlm"].positions_N] = batch.targets["mlm"].labels_N
            labels = labels.view_as(batch.input_ids_BL)
            mask = batch.attention_mask_BL
            found = model(batch.input_ids_BL, attention_mask=mask, labels=labels).loss
            loss += found.item() * len(batch.targets["mlm"].labels_N)
            count += len(batch.targets["mlm"].labels_N)
    assert loss / count == pytest.approx(summary(run)["metrics"]["eval/loss@0.15"], abs=1e-5)
    assert summary(run)["fingerprints"] == data.fingerprints
    paragraph = next(data.corpus.documents("train")).paragraphs[0]
    encoded = tokenizer(paragraph, add_special_tokens=False)["input_ids"]
    assert encoded == data.tokens["train"].tokens[: len(encoded)].tolist()


def test_wandb_has_the_configuration_and_the_metrics(mlm: Any, tracked: Callable[..., str]) -> None:
    run = run_folder(mlm)
    found = json.loads(tracked(mlm, "--summary"))
    composed = OmegaConf.load(run / ".hydra" / "config.yaml")
    expected: Any = OmegaConf.to_container(composed, resolve=True)
    known = {key: summary(run)[key] for key in ("versions", "fingerprints")}
    assert found["config"] == expected | known
    assert found["state"] == "finished"
    assert found["run_id"] == summary(run)["tracker_id"]
    assert set(found["tags"]) == {"mlm", "tiny", "token", "mine"}
    lines = tracked(mlm).splitlines()
    logged = "\n".join(line for line in lines if json.loads(line)["type"] == "history")
    for name in {name for row in rows(run) for name in row} - {"step"}:
        assert f'"{name}"' in logged or f'"{json.dumps(name)[1:-1]}"' in logged, name


def test_the_same_command_gives_the_same_run(mlm: Any, command: Callable[..., Any]) -> None:
    # A cache, a folder and a process of its own.
    again = command(*SMALL, *MLM, "tracker.mode=disabled", cold=True)
    assert again.code == 0, again.output + again.errors
    assert untimed(run_folder(again)) == untimed(run_folder(mlm))
    first, second = (summary(run_folder(done)) for done in (mlm, again))
    assert first["fingerprints"] == second["fingerprints"]
    assert first["metrics"] == second["metrics"]


@pytest.fixture(scope="session")
def sweep(command: Callable[..., Any]) -> Any:
    """Three jobs of which the second cannot run here: the CPU has no fp16."""
    return command(
        *("-m", *SMALL, "task=nsp", "tracker=none", "sweep=ours", "hardware=cpu"),
        "hardware.precision=fp32,fp16,bf16",
    )


def jobs(sweep: Any) -> Iterator[tuple[str, Path]]:
    for folder in sorted((sweep.folder / "outputs" / "sweeps" / "ours").glob("*/")):
        (precision,) = re.findall(r"precision=(\w+)", folder.name) or ["?"]
        yield precision, folder


def test_a_bad_job_does_not_end_a_sweep(sweep: Any) -> None:
    assert sweep.code == 1
    assert "Traceback" not in sweep.output + sweep.errors
    states = {precision: summary(folder)["status"] for precision, folder in jobs(sweep)}
    assert states == {"fp32": "finished", "fp16": "failed", "bf16": "finished"}
    line, last = [line for line in sweep.lines if line.startswith("error: ")]
    assert line.startswith("error: hardware.precision=fp16: needs a GPU")
    assert last.startswith("error: 1 of 3 jobs failed")
    folders = dict(jobs(sweep))
    assert line.removeprefix("error: ") in summary(folders["fp16"])["error"]
    assert line in (folders["fp16"] / "bertexp.log").read_text()


def test_pairs_are_evaluated_and_their_model_loads(sweep: Any) -> None:
    from transformers import AutoModelForNextSentencePrediction

    runs = dict(jobs(sweep))
    for precision in ("fp32", "bf16"):
        metrics = summary(runs[precision])["metrics"]
        assert metrics["eval/loss"] == metrics["eval/nsp_loss"]
        assert metrics["eval/nsp_accuracy"] == metrics["eval/nsp_accuracy@other_document"]
        assert 0 <= metrics["eval/nsp_accuracy@swap"] <= 1
        assert 0 <= metrics["eval/nsp_accuracy"] <= 1
        assert summary(runs[precision])["tracker_id"].startswith(f"nsp-{precision}-s0-")
    # The same run in another precision: near, and not the same.
    losses = [summary(runs[p])["metrics"]["eval/loss"] for p in ("fp32", "bf16")]
    assert losses[0] == pytest.approx(losses[1], abs=0.05)
    assert losses[0] != losses[1]
    folder = runs["fp32"] / "model"
    _, report = AutoModelForNextSentencePrediction.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]


def test_a_run_that_fails_midway_is_marked_failed(
    command: Callable[..., Any], tracked: Callable[..., str], tmp_path: Path
) -> None:
    # A file where the run wants a folder, as a full or read-only disk: tests may run as root.
    run = tmp_path / "outputs" / "2026-01-01" / "here"
    run.mkdir(parents=True)
    (run / "checkpoints").write_text("in the way")
    done = command(
        *SMALL, "tracker.mode=offline", f"hydra.run.dir={run}", "evaluation.every=6",
        folder=tmp_path,
    )  # fmt: skip
    assert done.code == 1
    assert "checkpoints" in summary(run)["error"]
    assert summary(run)["status"] == "failed"
    assert [row["step"] for row in rows(run)] == [0, 5, 6]
    assert json.loads(tracked(done, "--summary"))["state"] == "failed"


def test_a_run_that_diverges_fails_and_leaves_what_was_good(command: Callable[..., Any]) -> None:
    done = command(
        *SMALL, "tracker=none", "optimizer.lr=1e30", "scheduler.warmup=0.2", "evaluation.every=1",
        "trainer.max_bad_steps=4", "trainer.save_every=1", "trainer.keep_checkpoints=1",
    )  # fmt: skip
    run = run_folder(done)
    assert done.code == 1
    assert summary(run)["status"] == "failed"
    assert "trainer.max_bad_steps=4" in summary(run)["error"]
    (line,) = [line for line in done.lines if line.startswith("error: ")]
    assert line.startswith("error: trainer.max_bad_steps=4: so many steps in a row")
    skipped = [line for line in done.lines if "is skipped" in line]
    assert len(skipped) >= 4
    assert re.search(r"its examples: \d+(, \d+)*$", skipped[0])
    assert "Traceback" not in done.output + done.errors
    for path in (run / "checkpoints").iterdir():
        weights = load_file(path / "model.safetensors")
        assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    assert list((run / "checkpoints").iterdir())
    assert rows(run), "and every line of it is JSON"


def test_pairs_are_learnt_where_documents_differ(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    """Each document has six words of its own, so what follows can be told from what does not."""
    draw = random.Random(0)
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    documents = []
    for _ in range(12):
        words = ["".join(draw.choices(syllables, k=3)) for _ in range(6)]
        sentences = [
            [" ".join(draw.choices(words, k=3)) + "." for _ in range(4)] for _ in range(25)
        ]
        documents.append("\n".join(" ".join(paragraph) for paragraph in sentences))
    (tmp_path / "topics.txt").write_text("\n\n".join(documents))
    done = command(
        *("dataset=text", "dataset.files=[topics.txt]", "dataset.format=plain", "task=nsp"),
        *("dataset.validation_fraction=0.3", "task.sentences=period", "tokenizer.vocab_size=512"),
        *("model.hidden_size=64", "model.intermediate_size=128", "optimizer.lr=3e-3"),
        *("trainer.epochs=null", "trainer.max_steps=300", "trainer.log_every=50"),
        *("tracker=none", "evaluation.every=null", "hardware.threads=1"),
        folder=tmp_path,
    )
    assert done.code == 0, done.output + done.errors
    losses = [row["train/loss"] for row in rows(run_folder(done)) if "train/loss" in row]
    assert losses[0] == pytest.approx(math.log(2), abs=0.1)
    assert losses[-1] < 0.5
