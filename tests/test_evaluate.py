"""``python -m bertexp.evaluate``: the same figures again, others, under a name of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from folders import summary

from bertexp.experiment.saved import find_saved

Trained = Callable[[str], Path]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_is_evaluated_as_at_its_end(command: Callable[..., Any], trained: Trained) -> None:
    run = trained("mlm_nsp")
    before = contents(run)
    cache = {"BERTEXP_CACHE": str(run.parent / "cache")}
    prepared = contents(run.parent / "cache").keys()
    done = command(str(run), "hardware=cpu", module="bertexp.evaluate", **cache)
    assert done.code == 0, done.lines
    assert "examples   those of the run's own evaluation" in done.output
    ended = summary(run)
    written = run / "evaluations" / "model.json"
    found = json.loads(written.read_text())
    assert found["metrics"].keys() == ended["metrics"].keys()
    for name, value in ended["metrics"].items():
        assert found["metrics"][name] == pytest.approx(value, abs=1e-6), name
    assert found["fingerprints"] == ended["fingerprints"]
    after = contents(run)
    after.pop(str(written))
    assert after == before
    # With the model's own tokenizer, nothing is cut into tokens again.
    assert contents(run.parent / "cache").keys() == prepared


def test_babylms_pipeline_gets_the_preferred_sentence_of_every_pair(
    command: Callable[..., Any], trained: Trained, tmp_path: Path
) -> None:
    run = trained("mlm")
    kinds = {"agreement": 3, "order": 4}
    pairs = {
        name: [(f"the {n} sleeps{name}", f"the sleeps{name} {n}") for n in range(count)]
        for name, count in kinds.items()
    }
    (tmp_path / "blimp_filtered").mkdir()
    for name, rows in pairs.items():
        # As in the pipeline's data, a supplement has no UID: its file's name counts.
        uid = {"UID": name, "field": "syntax", "linguistics_term": "x"} if name == "order" else {}
        lines = [json.dumps({"sentence_good": a, "sentence_bad": b, **uid}) for a, b in rows]
        (tmp_path / "blimp_filtered" / f"{name}.jsonl").write_text("\n".join(lines))
    data = f"evaluation.minimal_pairs={tmp_path / 'blimp_filtered'}"
    options = ("evaluation.max_examples=null", "format=babylm", "save=pairs", "hardware=cpu")
    cache = {"BERTEXP_CACHE": str(run.parent / "cache")}
    done = command(str(run), data, *options, module="bertexp.evaluate", **cache)
    assert done.code == 0, done.lines
    place = run / "evaluations" / "babylm" / run.name / "main/zero_shot/mlm/blimp/blimp_filtered"
    found = json.loads((place / "predictions.json").read_text())
    assert found.keys() == kinds.keys()
    right = 0
    for name, rows in found.items():
        assert [row["id"] for row in rows["predictions"]] == [
            f"{name}_{n}" for n in range(kinds[name])
        ]
        for row, pair in zip(rows["predictions"], pairs[name], strict=True):
            assert row["pred"] in pair
            right += row["pred"] == pair[0]
    metrics = json.loads((run / "evaluations" / "pairs.json").read_text())["metrics"]
    assert metrics["eval/minimal_pairs"] == pytest.approx(right / sum(kinds.values()))


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
    assert done.code == 0, done.lines
    assert "after 6 steps" in done.output
    assert "eval/loss@0.3 " in done.output and "eval/loss@0.15" not in done.output
    assert "examples   not those of the run's own evaluation" in done.output
    # Named by what is evaluated.
    (written,) = (run / "evaluations").glob("step-6,dataset.files=*,evaluation.mask_probs=*.json")
    found = json.loads(written.read_text())
    assert found["model"] == "checkpoints/step-6"
    assert "evaluation.mask_probs=[0.3]" in found["overrides"]
    after = contents(run)
    assert after.pop(str(written))
    assert after == before


def test_all_runs_of_a_sweep_are_evaluated_and_those_that_fail_are_named(
    command: Callable[..., Any], trained: Trained, tmp_path: Path
) -> None:
    for seed in (0, 1):
        shutil.copytree(
            *(trained("mlm"), tmp_path / "sweep" / f"seed={seed}"),
            ignore=shutil.ignore_patterns("evaluations"),
        )
    done = command(
        *("sweep", "nowhere/at/all", "save=mine", "evaluation.minimal_pairs=generated"),
        module="bertexp.evaluate",
        folder=tmp_path,
        BERTEXP_CACHE=str(trained("mlm").parent / "cache"),
    )
    assert done.code == 1
    assert "2/3 · sweep/seed=1" in done.lines
    assert "failed: run=nowhere/at/all: there is no such folder." in done.lines
    assert done.lines[-1] == "error: 1 of 3 runs were not evaluated."
    for seed in (0, 1):
        found = json.loads((tmp_path / f"sweep/seed={seed}/evaluations/mine.json").read_text())
        # Neither the run nor its list of evaluators had them.
        (word_order, _) = sorted(found["minimal_pairs"], key=lambda one: one["name"], reverse=True)
        assert word_order["name"] == "eval/minimal_pairs/word_order"
        assert word_order["accuracy"] == found["metrics"]["eval/minimal_pairs"]
        assert word_order["name"] in found["fingerprints"]["bank"]
        line = f"eval/loss {found['metrics']['eval/loss']:.3f} · eval/accuracy "
        assert sum(said.startswith(line) for said in done.lines) == 2


def test_a_folder_of_no_run_is_evaluated_on_the_data_that_are_named(
    command: Callable[..., Any], trained: Trained, tmp_path: Path
) -> None:
    shutil.copytree(trained("mlm") / "model", tmp_path / "copied")
    data = ("dataset=text", "dataset.files=[notes.txt]", "dataset.validation_fraction=0.3")
    done = command(
        *("copied", *data, "evaluation.probes=[]", "save=notes"),
        module="bertexp.evaluate",
        folder=_notes(tmp_path),
    )
    assert done.code == 0, done.lines
    assert "model      copied" in done.output
    assert "documents of text" in done.output
    assert "outputs/evaluate/copied/notes.json" in done.lines
    found = json.loads((tmp_path / "outputs/evaluate/copied/notes.json").read_text())
    assert found["model"] == "copied"
    # As its run evaluates it, by the model's own tokenizer; nothing is written.
    before = contents(trained("mlm"))
    as_run = command(
        *(str(trained("mlm")), *data, "save=null", "evaluation.max_examples=256"),
        *("evaluation.pseudo_perplexity=100", "task.max_length=128"),
        module="bertexp.evaluate",
        folder=tmp_path,
    )
    assert contents(trained("mlm")) == before
    line = next(one for one in as_run.lines if one.startswith("eval/loss "))
    assert line.split()[1] == f"{found['metrics']['eval/loss']:.3f}"


def test_a_resumed_run_that_has_not_ended_is_its_newest_checkpoint(
    trained: Trained, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained("mlm"), run)
    found = summary(run)
    assert find_saved(str(run)).source == str(run / "model")
    found["status"] = "interrupted"
    (run / "summary.json").write_text(json.dumps(found))
    assert find_saved(str(run)).source == str(run / "model"), "it is as new"
    found["budget"]["step"] = 9
    (run / "summary.json").write_text(json.dumps(found))
    assert find_saved(str(run)).source == str(run / "checkpoints" / "step-12")


def _notes(folder: Path) -> Path:
    texts = [f"The cat number {n} sat. It saw {n} dogs! They ran off." for n in range(40)]
    (folder / "notes.txt").write_text("\n\n".join(texts))
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "RUN is missing: python -m bertexp.evaluate RUN... [overrides]."),
        (("no/such/run",), "run=no/such/run: there is no such folder."),
        (("{run}/checkpoints",), "run={run}/checkpoints: the folder has neither a run nor a model "
         "in it."),
        (("{run}", "task=nsp"), "task=nsp: {run}/model is a BertForMaskedLM, which has no head "
         "for it."),
        (("{run}", "format=babylm"), "format=babylm: needs evaluation.minimal_pairs=FOLDER, the "
         "pipeline's data, such as evaluation_data/full_eval/blimp_filtered."),
        (("{run}", "evaluation.mask_prob=[1]"), "evaluation.mask_prob: no such key. Did you mean "
         "'evaluation.mask_probs'?"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(
    command: Callable[..., Any], trained: Trained, arguments: tuple[str, ...], message: str
) -> None:
    run = trained("mlm")
    filled = [argument.format(run=run) for argument in arguments]
    done = command(*filled, module="bertexp.evaluate")
    assert (done.code, done.lines) == (1, ["error: " + message.format(run=run)])
