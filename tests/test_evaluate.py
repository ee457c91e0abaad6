"""``python -m bertexp.evaluate``: the same figures again, others, under a name of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Trained = Callable[[str], Path]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_is_evaluated_as_at_its_end(command: Callable[..., Any], trained: Trained) -> None:
    run = trained("mlm_nsp")
    before = contents(run)
    cache = {"BERTEXP_CACHE": str(run.parent / "cache")}
    prepared = contents(run.parent / "cache").keys()
    done = command(str(run), "hardware=cpu", module="bertexp.evaluate", **cache)
    assert done.code == 0, done.said
    assert "questions  those that the run is asked at its end" in done.output
    summary = json.loads((run / "summary.json").read_text())
    written = run / "evaluations" / "model.json"
    found = json.loads(written.read_text())
    assert found["metrics"].keys() == summary["metrics"].keys()
    for name, value in summary["metrics"].items():
        assert found["metrics"][name] == pytest.approx(value, abs=1e-6), name
    assert found["fingerprints"] == summary["fingerprints"]
    after = contents(run)
    after.pop(str(written))
    assert after == before
    # With the model's own tokenizer, nothing is cut into tokens again.
    assert contents(run.parent / "cache").keys() == prepared


def test_a_checkpoint_on_another_corpus_at_another_rate(
    command: Callable[..., Any], trained: Trained
) -> None:
    run = trained("mlm")
    before = contents(run)
    done = command(
        *(str(run / "checkpoints" / "step-6"), "evaluation.mask_probs=[0.3]"),
        *("dataset=text", "dataset.files=[notes.txt]", "dataset.validation_fraction=0.3"),
        module="bertexp.evaluate",
        folder=_notes(run.parent),
    )
    assert done.code == 0, done.said
    assert "after 6 steps" in done.output
    assert "eval/loss@0.3 " in done.output and "eval/loss@0.15" not in done.output
    assert "questions  not those that the run is asked at its end" in done.output
    # Named by what is evaluated.
    (written,) = (run / "evaluations").glob("step-6,dataset.files=*,evaluation.mask_probs=*.json")
    found = json.loads(written.read_text())
    assert found["model"] == "checkpoints/step-6"
    assert "evaluation.mask_probs=[0.3]" in found["overrides"]
    after = contents(run)
    assert after.pop(str(written))
    assert after == before


@pytest.mark.parametrize(("save", "written"), [("mine", ["mine.json"]), ("null", [])])
def test_a_name_of_ones_own_or_none(
    command: Callable[..., Any], trained: Trained, tmp_path: Path, save: str, written: list[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained("mlm"), run, ignore=shutil.ignore_patterns("evaluations"))
    cache = {"BERTEXP_CACHE": str(trained("mlm").parent / "cache")}
    done = command(str(run), f"save={save}", module="bertexp.evaluate", **cache)
    assert done.code == 0, done.said
    assert [path.name for path in run.glob("evaluations/*")] == written


def _notes(folder: Path) -> Path:
    texts = [f"The cat number {n} sat. It saw {n} dogs! They ran off." for n in range(40)]
    (folder / "notes.txt").write_text("\n\n".join(texts))
    return folder


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "RUN is missing: python -m bertexp.evaluate RUN [overrides]."),
        (("no/such/run",), "run=no/such/run: there is no such folder."),
        (("{run}/..",), "run={run}/..: the folder has neither a run nor a model in it."),
        (("bert-base",), "run=bert-base: no run's folder, it has no .hydra/config.yaml."),
        (("{run}", "task=nsp"), "task=nsp: {run}/model is a BertForMaskedLM, which has no head "
         "for it."),
        (("{run}", "evaluation.mask_prob=[1]"), "evaluation.mask_prob: no such key. Did you mean "
         "'evaluation.mask_probs'?"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(
    command: Callable[..., Any], trained: Trained, arguments: tuple[str, ...], said: str
) -> None:
    run = trained("mlm")
    filled = [argument.format(run=run) for argument in arguments]
    done = command(*filled, module="bertexp.evaluate")
    assert (done.code, done.said) == (1, ["error: " + said.format(run=run)])
