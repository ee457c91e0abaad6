"""Every objective through all commands: trained, resumed, evaluated, used, compared."""

from __future__ import annotations

import functools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from folders import rows, summary, untimed
from rich.cells import cell_len
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

import bertexp
from bertexp.config import conf_dir
from bertexp.experiment.saved import find_saved
from bertexp.predict.prediction import Predictor
from bertexp.predict.unmasking import Unmasking
from bertexp.validation import UserError

# On the command line, by the name of the run. A new option in conf/task/ needs a line here.
OBJECTIVES: dict[str, tuple[str, ...]] = {
    "mlm": ("task=mlm",),
    "nsp": ("task=nsp",),
    "sop": ("task=sop",),
    "mlm_nsp": ("task=mlm_nsp",),
    "diffusion": ("task=diffusion", "task.format=packed", "task.attention=document"),
    "rtd": ("task=rtd", "task.rtd.embeddings=gdes", "optimizer=muon"),
    "mntp": ("task=mntp", "task.mntp.causal_share=0.5"),
    "clm": ("task=clm",),
    "mae_lm": ("task=mae_lm",),
    "token_dropping": ("task=token_dropping", "model.num_hidden_layers=4", "optimizer=muon"),
    "phases": ("task=mlm", "phases=[{share: 0.5, task: clm}, {share: 0.5}]"),
}
# Those that fill masks and score text, and are compared by ``eval/loss``.
MASKED = [name for name in OBJECTIVES if name not in ("nsp", "sop", "rtd")]
# Those that leave another kind of model or encoder than ``mlm``, which tests/finetune tunes.
OF_THEIR_OWN_KIND = ("nsp", "rtd", "clm", "mae_lm", "phases")
OPTIONS = {path.stem for path in (conf_dir() / "task").glob("*.yaml")}
SMALL = (
    *("dataset=text", "dataset.files=[corpus.txt]", "dataset.validation_fraction=0.4"),
    *("tokenizer.vocab_size=200", "task.max_length=48", "evaluation.max_examples=24"),
    *("model.hidden_size=32", "model.intermediate_size=48", "optimizer.lr=0.01"),
    # Not with the frequencies of the tokens, which is all that is learnt in so few steps.
    "model.initialization=bert",
    *("trainer.max_steps=16", "trainer.save_every=8", "trainer.keep_checkpoints=3"),
    *("trainer.batch_size=8", "evaluation.probes=[length]"),
)
RUN = ("tracker=none", "hardware=cpu", "hardware.precision=fp32")

Use = Callable[..., str]
Trained = Callable[[str], Path]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus and labelled texts."""
    folder = tmp_path_factory.mktemp("objectives")
    words = ("the", "old", "man", "walks", "under", "green", "rivers", "near", "silver", "light")
    drawn = Random(0)
    made = [" ".join(drawn.choices(words, k=6 + n % 6)) for n in range(600)]
    sentences = [f"{text.capitalize()}." for text in made]
    documents = [" ".join(sentences[n : n + 4]) for n in range(0, 600, 3)]
    (folder / "corpus.txt").write_text("\n\n".join(documents), encoding="utf-8")
    labelled = [f"{text},{'ab'[n % 2]}" for n, text in enumerate(made[:24])]
    (folder / "texts.csv").write_text("\n".join(["text,label", *labelled]), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def use(work: Path, command: Callable[..., Any]) -> Use:
    """Return a function that runs a command that must succeed; returns what it prints."""

    def used(module: str, *arguments: str) -> str:
        done = command(*arguments, module=f"bertexp{module}", folder=work)
        assert done.code == 0, done.lines
        losses = [line for line in done.output.splitlines() if " · eval/" in line]
        assert max(map(cell_len, losses), default=0) <= 80
        # A path may be longer, and so may settings and JSON.
        lines = [line for line in done.output.splitlines() if not set("/={") & set(line)]
        assert max(map(cell_len, lines), default=0) <= 80
        return str(done.output)

    return used


@pytest.fixture(scope="module")
def trained(work: Path, use: Use) -> Trained:
    """Return a function that trains an objective; returns the run's folder."""

    @functools.cache
    def train(name: str) -> Path:
        scored = ("evaluation.pseudo_perplexity=2",) if name in MASKED else ()
        use("", *SMALL, *RUN, *OBJECTIVES[name], *scored, f"hydra.run.dir={name}")
        return work / name

    return train


def test_every_task_is_here() -> None:
    assert {each.removeprefix("task=") for each, *_ in OBJECTIVES.values()} == OPTIONS


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_learns_and_a_resumed_run_is_the_same(trained: Trained, use: Use, name: str) -> None:
    run = trained(name)
    losses = [row["train/loss"] for row in rows(run) if "train/loss" in row]
    assert losses[-1] < losses[0] or name not in MASKED
    again = run.with_name(f"{name}-resumed")
    shutil.copytree(run, again)
    shutil.rmtree(again / "checkpoints" / "step-16")
    use("", f"trainer.resume={again.name}")
    assert untimed(again) == untimed(run)
    assert summary(again)["metrics"] == summary(run)["metrics"]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_is_evaluated_again_alike(trained: Trained, use: Use, name: str) -> None:
    run = trained(name)
    use(".evaluate", name, "save=again")
    again = json.loads((run / "evaluations" / "again.json").read_text())
    assert again["metrics"] == summary(run)["metrics"]
    assert again["fingerprints"] == summary(run)["fingerprints"]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_its_encoder_loads_elsewhere_and_is_fine_tuned(
    trained: Trained, use: Use, name: str
) -> None:
    run = trained(name)
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    encoder = AutoModel.from_pretrained(run / "model")
    with torch.no_grad():
        assert encoder(**tokenizer("the old man", return_tensors="pt"))[0].isfinite().all()
    if name not in OF_THEIR_OWN_KIND:
        return
    data = ("finetune.train=texts.csv", "finetune.validation=texts.csv")
    folder = f"hydra.run.dir={name}-tuned"
    use(".finetune", name, *data, "trainer.max_steps=2", "tracker=none", "hardware=cpu", folder)
    assert "eval/accuracy" in summary(run.with_name(f"{name}-tuned"))["metrics"]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_its_model_card_is_code_that_runs(
    trained: Trained, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained(name) / "model"
    card = (folder / "README.md").read_text()
    _, header, text = card.split("---\n", 2)
    assert yaml.safe_load(header).keys() == {"library_name", "pipeline_tag", "tags"}
    corpus = summary(trained(name))["fingerprints"]["corpus"]
    assert all(part in text for part in ("| model |", corpus, "after 16 steps", "@software"))
    monkeypatch.chdir(folder)
    scope: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(code, scope)
    assert capsys.readouterr().out or name in ("clm", "phases")


def test_sentence_transformers_averages_its_hidden_states(trained: Trained) -> None:
    folder, texts = trained("mlm") / "model", ["the old man", "the old man walks to the old house"]
    inputs = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden_BLD = AutoModel.from_pretrained(folder)(**inputs).last_hidden_state
    counted_BL1 = inputs["attention_mask"][..., None]
    expected = (hidden_BLD * counted_BL1).sum(1) / counted_BL1.sum(1)
    found = SentenceTransformer(str(folder), device="cpu").encode(texts)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", MASKED)
def test_it_fills_masks(trained: Trained, name: str) -> None:
    run = bertexp.load(trained(name))
    (mask,) = run.fill("the old [MASK] walks").masks
    assert 0 < sum(probability for _, probability in mask.likeliest) <= 1 + 1e-5
    assert "pseudo-perplexity" in str(run.fill("the old man walks"))


# Each with more than one encoder that is alike in all steps.
@pytest.mark.parametrize("name", ["rtd", "mae_lm", "token_dropping", "phases"])
def test_its_cost_is_planned(use: Use, name: str) -> None:
    planned = use("", *SMALL, *RUN, *OBJECTIVES[name], "trainer.dry_run=true")
    assert "floating-point operations" in planned


@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_it_sees_is_shown(
    trained: Trained, work: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(work)
    monkeypatch.setenv("BERTEXP_CACHE", str(work / "cache"))
    assert "encoder" in str(bertexp.inspect("what=architecture,tokens", run=trained(name)))


def test_masked_ones_are_compared_by_the_same_bank(trained: Trained, use: Use) -> None:
    runs = [trained(name) for name in MASKED]
    # Tasks on pairs are evaluated on pairs.
    runs = [run for run in runs if run.name != "mlm_nsp"]
    banks = [summary(run)["fingerprints"]["bank"] for run in runs]
    # Runs with phases are evaluated on their last task.
    named = [run.name if run.name in OPTIONS else "mlm" for run in runs]
    first, *others = [bank[name] for bank, name in zip(banks, named, strict=True)]
    assert others == [first] * len(others)
    compared = use(".compare", *MASKED, "--metric", "eval/loss")
    assert all(name in compared for name in ("mlm_nsp", "diffusion"))


def test_all_are_compared_by_probes(trained: Trained, use: Use) -> None:
    runs = [trained(name) for name in OBJECTIVES]
    assert all("eval/probe/length" in summary(run)["metrics"] for run in runs)
    compared = use(".compare", *OBJECTIVES, "--metric", "eval/probe/length")
    assert all(name in compared for name in OBJECTIVES)


def test_replaced_tokens_are_told_and_the_generator_fills_masks(
    trained: Trained, use: Use, command: Callable[..., Any]
) -> None:
    run = trained("rtd")
    told = json.loads(use(".predict", run.name, "the old man", "--json"))["replaced"]
    assert [each["token"] for each in told] == ["the", "old", "man"]
    assert all(0 < each["probability"] < 1 for each in told)
    predict = Predictor(find_saved(str(run)))
    with pytest.raises(UserError, match=r"^--write: the model predicts no tokens; .*/generator\.$"):
        predict.write("the old", 5, Unmasking())
    with pytest.raises(UserError, match=r"^text_b: .*; give one text\.$"):
        predict("the old", "man")
    generator = f"{run.name}/model/generator"
    (mask,) = json.loads(use(".predict", generator, "the old [MASK] walks", "--json"))["masks"]
    assert len(mask["likeliest"]) > 1
    refused = command(run.name, "task=mlm", module="bertexp.evaluate", folder=run.parent)
    assert refused.code == 1
    assert refused.lines[-1].endswith(f"no head for it; its generator is {generator}.")
    evaluated = use(".evaluate", generator, "task=mlm", "save=generator")
    assert re.search(r"^examples +those of the run's own evaluation$", evaluated, re.MULTILINE)
    again = json.loads((run / "evaluations" / "generator.json").read_text())["metrics"]
    ours = summary(run)["metrics"]["eval/generator_loss"]
    assert again["eval/loss"] == pytest.approx(ours, rel=1e-5)
