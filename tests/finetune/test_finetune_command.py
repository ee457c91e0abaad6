"""``python -m bertexp.finetune``: the command, what it leaves, what comparisons make of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertexp.compare.comparison import compare
from bertexp.compare.runs import read_runs
from bertexp.finetune.records import read_records

ROWS = [(f"{'ba da' if n % 2 else 'ka la'} {'ga ' * (n % 5)}", n % 2) for n in range(60)]


@pytest.fixture(scope="module")
def work(trained: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of its own, and files that a linear model can tell apart."""
    folder = tmp_path_factory.mktemp("finetuned")
    shutil.copytree(trained("mlm"), folder / "run")
    for name, rows in (("train", ROWS[:40]), ("dev", ROWS[40:])):
        lines = [f"{text}\t{'yes' if label else 'no'}" for text, label in rows]
        (folder / f"{name}.tsv").write_text("\n".join(["text\tlabel", *lines]) + "\n")
    (folder / "test.tsv").write_text("text\nba da\nka la\n")
    return folder


SETTINGS = (
    *("finetune.train=train.tsv", "finetune.validation=dev.tsv", "tracker=none"),
    *("trainer.batch_size=8", "hardware.threads=1", "optimizer.lr=3e-3"),
)


@pytest.fixture(scope="module")
def swept(work: Path, command: Callable[..., Any]) -> Any:
    """A sweep over two seeds, started as any run is."""
    done = command(
        *("run", *SETTINGS, "finetune.test=test.tsv", "seed=0,1", "sweep=two"),
        *("trainer.epochs=3", "finetune.metrics=[accuracy,f1]"),
        module="bertexp.finetune",
        folder=work,
    )
    assert done.code == 0, done.lines
    return done


def test_several_seeds_make_a_sweep_whose_median_is_said(swept: Any) -> None:
    assert "sweep two: 2 jobs" in swept.output
    assert any("median" in line and "lowest" in line for line in swept.lines)
    assert all(len(line) <= 80 for line in swept.lines), swept.lines


def test_a_run_leaves_what_any_run_leaves(work: Path, swept: Any) -> None:
    job = work / "outputs" / "finetune" / "sweeps" / "two" / "seed=0"
    summary = json.loads((job / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["parent"] == {"run": "run", "model": "run/model"}
    assert summary["metrics"].keys() == {"eval/loss", "eval/accuracy", "eval/f1"}
    assert summary["yardsticks"]["eval/accuracy"] == pytest.approx(0.5)
    assert summary["budget"]["step"] == 15
    lines = [json.loads(line) for line in (job / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "eval/loss" in line] == [0, 5, 10, 15]
    assert (job / ".hydra" / "config.yaml").exists()


def test_the_model_is_what_transformers_loads_and_says_the_same(work: Path, swept: Any) -> None:
    from transformers import pipeline

    job = work / "outputs" / "finetune" / "sweeps" / "two" / "seed=0"
    classify = pipeline("text-classification", model=str(job / "model"), device="cpu")
    said = [found["label"] for found in classify(["ba da", "ka la"])]
    written = (job / "predictions" / "test.tsv").read_text()
    assert written == f"index\tprediction\n0\t{said[0]}\n1\t{said[1]}\n"
    texts = [text for text, _ in ROWS[40:]]
    right = [
        found["label"] == ("yes" if label else "no")
        for found, (_, label) in zip(classify(texts), ROWS[40:], strict=True)
    ]
    summary = json.loads((job / "summary.json").read_text())
    assert summary["metrics"]["eval/accuracy"] == pytest.approx(sum(right) / len(right))


def test_the_run_that_was_fine_tuned_has_the_median_beside_its_own_figures(
    work: Path, swept: Any
) -> None:
    known = read_records(work / "run")
    metrics = known["metrics"]
    both = [
        json.loads(path.read_text())["metrics"]["eval/accuracy"]
        for path in (work / "outputs" / "finetune").rglob("summary.json")
    ]
    assert metrics["finetune/text/accuracy"] == pytest.approx(sum(both) / 2)
    assert known["bank"].keys() == known["answered"].keys() == metrics.keys()
    assert known["answered"]["finetune/text/accuracy"] == len(ROWS[40:])
    runs = read_runs([work / "run"])
    found = compare(runs, metric="finetune/text/accuracy")
    assert found.settings[0].mean == metrics["finetune/text/accuracy"]
    assert found.answered["finetune/text/accuracy"] == len(ROWS[40:])
    assert {one.metric for one in compare(runs).abilities} >= {"finetune/text/accuracy"}


def test_it_stops_early_and_reports_the_best(work: Path, command: Callable[..., Any]) -> None:
    # At such a rate nothing gets better after the first evaluation.
    done = command(
        *("run/checkpoints/step-6", *SETTINGS, "optimizer.lr=1e-12", "hydra.run.dir=early"),
        *("trainer.epochs=50", "finetune.patience=2", "finetune.every=2"),
        module="bertexp.finetune",
        folder=work,
    )
    assert done.code == 0, done.lines
    summary = json.loads((work / "early" / "summary.json").read_text())
    assert summary["budget"]["step"] == 6
    assert summary["budget"]["stopped"]
    assert summary["best"]["step"] == 2
    assert "stopped early; best: step 2" in done.output
    # It is not the run's last model that was fine-tuned.
    records = (path.read_text() for path in (work / "run" / "finetuned").glob("*.json"))
    assert not any("early" in record for record in records)


def test_a_stopped_run_goes_on(work: Path, command: Callable[..., Any]) -> None:
    first = (*SETTINGS, "trainer.epochs=2", "trainer.save_every=3", "hydra.run.dir=going")
    assert command("run", *first, module="bertexp.finetune", folder=work).code == 0
    done = command(
        *("trainer.resume=going", "trainer.epochs=3"), module="bertexp.finetune", folder=work
    )
    assert done.code == 0, done.lines
    assert json.loads((work / "going" / "summary.json").read_text())["budget"]["step"] == 15


def test_two_processes_give_what_one_gives(work: Path, command: Callable[..., Any]) -> None:
    found = []
    for count in (1, 2):
        folder = f"by{count}"
        done = command(
            *("run", *SETTINGS, "trainer.epochs=1", f"hydra.run.dir={folder}", "hardware=cpu"),
            *("finetune.test=test.tsv", "hardware.precision=fp32"),
            f"hardware.num_processes={count}",
            module="bertexp.finetune",
            folder=work,
        )
        assert done.code == 0, done.lines
        assert (work / folder / "predictions" / "test.tsv").exists()
        found.append(json.loads((work / folder / "summary.json").read_text())["metrics"])
    # Sums in another order, and dropout of its own in each process: the model has none.
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_of_several_runs_it_says_how_to_compare_them(
    work: Path, command: Callable[..., Any]
) -> None:
    for name in ("prob=0.15", "prob=0.4"):
        shutil.copytree(work / "run", work / "both" / name, ignore=lambda *_: ["finetuned"])
    done = command(
        *("both", *SETTINGS, "trainer.epochs=1", "sweep=of-both"),
        module="bertexp.finetune",
        folder=work,
    )
    assert done.code == 0, done.lines
    # Less the folder that both are in: the table has a line for each.
    assert any(line.startswith("prob=0.15  ") for line in done.lines), done.lines
    asked = done.lines[-1].removeprefix("python -m bertexp.compare ")
    assert asked == "both --metric finetune/text/accuracy"
    compared = command(*asked.split(), module="bertexp.compare", folder=work)
    assert compared.code == 0, compared.lines
    assert any("finetune/text/accuracy  median" in line for line in compared.lines)


def test_a_mistake_that_all_jobs_make_is_listed_once(
    work: Path, command: Callable[..., Any]
) -> None:
    done = command(
        *("run", *SETTINGS, "finetune.label=none", "seed=0,1,2", "sweep=wrong"),
        module="bertexp.finetune",
        folder=work,
    )
    assert done.code == 1
    (listed,) = (line for line in done.lines if line.startswith("failed: "))
    assert listed == (
        "failed: outputs/finetune/sweeps/wrong/seed=0 and 2 others: finetune.label=none: "
        "'train.tsv' has no such column; it has text, label."
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "RUN is missing: python -m bertexp.finetune RUN finetune=... ."),
        (("run", "finetune=sst3"), "finetune=sst3: must be one of babylm_boolq, babylm_mnli, "
         "babylm_mrpc, babylm_multirc, babylm_qqp, babylm_rte, babylm_wsc, cola, mnli, mrpc, qnli, "
         "qqp, rte, sst2, stsb, text, wnli. Did you mean 'sst2'?"),
        (("no/such/run",), "run=no/such/run: there is no such folder."),
        (("nowhere",), "run=nowhere: there is no such folder, nor a model of this name in the "
         "cache of the Hugging Face Hub here, and the Hub does not answer."),
        (("outputs",), "run=outputs: the folder has neither a run nor a model in it."),
        (("run", "finetune.train=dev.tsv", "finetune.validation=none.tsv"),
         "finetune.validation: there is no file 'none.tsv' (looked in {work}). Did you mean "
         "'dev.tsv'?"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_leaves_nothing(
    work: Path, command: Callable[..., Any], arguments: tuple[str, ...], said: str
) -> None:
    before = sorted((work / "outputs").rglob("*"))
    done = command(*arguments, "tracker=none", module="bertexp.finetune", folder=work)
    assert (done.code, done.lines) == (1, [f"error: {said.format(work=work)}"])
    assert sorted((work / "outputs").rglob("*")) == before
