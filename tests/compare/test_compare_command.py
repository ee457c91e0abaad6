"""``python -m bertexp.compare`` over real runs, finished and not."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forkserver import ForkServer, Process
from scipy import stats

import bertexp
from bertexp.compare.__main__ import main, options_parser
from bertexp.compare.report import default_output
from bertexp.validation import UserError

Command = Callable[..., Any]

SMALL = (
    *("dataset=synthetic", "dataset.synthetic.documents=60", "dataset.validation_fraction=0.2"),
    *("tokenizer.vocab_size=256", "model.hidden_size=32", "model.intermediate_size=64"),
    *("model.num_hidden_layers=1", "trainer.max_steps=20", "trainer.batch_size=8"),
    # By default the rate depends on the model's size.
    *("evaluation.probes=[]", "optimizer.lr=0.001"),
    *("evaluation.every=5", "evaluation.max_examples=24", "evaluation.pseudo_perplexity=0"),
    *("hardware.threads=1", "tracker=none"),
)
COMPARE = "bertexp.compare"
RATES = "outputs/sweeps/rates"


def jobs(folder: Path) -> list[tuple[float, int, dict[str, Any], list[dict[str, float]], Path]]:
    """Return rate, seed, summary, lines and folder of every run in a sweep."""
    found = []
    for path in sorted(folder.glob("*/summary.json")):
        config = (path.parent / ".hydra" / "config.yaml").read_text()
        rate, seed = (re.search(rf"^ *{key}: (\S+)$", config, re.M) for key in ("prob", "seed"))
        assert rate and seed
        record = path.parent / "metrics.jsonl"
        lines = record.read_text().splitlines() if record.exists() else []
        rows = [json.loads(line) for line in lines]
        found.append(
            (float(rate[1]), int(seed[1]), json.loads(path.read_text()), rows, path.parent)
        )
    return found


def by_seed(job: tuple[Any, ...]) -> int:
    return job[1]


def strict(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(), parse_constant=pytest.fail)


@pytest.fixture(scope="module")
def sweep(command: Callable[..., Any]) -> Path:
    """A sweep of two rates and three seeds, and six jobs too large for the memory; its folder."""
    axes = ("masking.prob=0.15,0.4", "model.hidden_size=32,1048576", "seed=0,1,2")
    done = command("-m", *SMALL, *axes, "sweep=rates")
    assert done.code == 1
    statuses = [summary["status"] for _, _, summary, _, _ in jobs(done.folder / RATES)]
    assert sorted(statuses) == ["failed"] * 6 + ["finished"] * 6, done.output + done.errors
    return done.folder


@pytest.fixture(scope="module")
def compared(sweep: Path, command: Command) -> Any:
    done = command(RATES, "--by", "masking.prob", module=COMPARE, folder=sweep)
    assert done.code == 0, done.output + done.errors
    return done


def test_the_figures_are_scipys_on_what_the_runs_recorded(sweep: Path, compared: Any) -> None:
    found = strict(sweep / RATES / "compare.json")
    losses: dict[float, list[float]] = {0.15: [], 0.4: []}
    for rate, _, summary, _, _ in sorted(jobs(sweep / RATES), key=by_seed):
        if summary["status"] == "finished":
            losses[rate].append(summary["metrics"]["eval/loss"])
    assert (found["format"], found["at"], found["budget"]) == (3, "steps", 20)
    assert found["baseline"] == "masking.prob=0.15"
    for setting in found["settings"]:
        values = losses[setting["values"]["masking.prob"]]
        interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert setting["runs"] == 3
        assert setting["mean"] == pytest.approx(sum(values) / 3)
        assert [setting["low"], setting["high"]] == pytest.approx(list(interval))
    (difference,) = found["differences"]
    test = stats.ttest_rel(losses[0.4], losses[0.15])
    assert difference["p_value"] == pytest.approx(test.pvalue)
    assert (difference["verdict"] == "not resolved") == (test.pvalue > 0.05)
    assert (difference["seeds_needed"] is None) == (test.pvalue <= 0.05)


def test_the_table_fits_a_terminal_and_names_the_failed_run(sweep: Path, compared: Any) -> None:
    lines = compared.output.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in compared.output and compared.errors == ""
    text = " ".join(compared.output.split())
    assert re.search(r"\b0\.4 3 \d\.\d+ ± \d\.\d+ [+−]\d\.\d+ ± \d\.\d+ ", text)
    assert re.search(r"masking\.prob=0\.15 0 failed UserError: model\.hidden_size=1048576", text)
    for file in ("compare.csv", "compare.json", "metric.png", "curves.png", "compare.html"):
        assert f"{RATES}/{file}" in lines
        assert (sweep / RATES / file).stat().st_size > 0


def test_the_csv_has_a_row_for_every_run(sweep: Path, compared: Any) -> None:
    folder = sweep / RATES
    with (folder / "compare.csv").open(newline="") as file:
        rows = {row["folder"]: row for row in csv.DictReader(file)}
    known = jobs(folder)
    assert len(rows) == len(known) == 12
    for rate, seed, summary, _, path in known:
        row = rows[str(path.relative_to(sweep))]
        assert (float(row["masking.prob"]), int(row["seed"])) == (rate, seed)
        assert row["status"] == summary["status"]
        for name, value in summary.get("metrics", {}).items():
            assert float(row[name]) == pytest.approx(value)
        assert (row["error"] == "") == (row["status"] == "finished")


@pytest.mark.parametrize(
    ("at", "unit"),
    [
        ("predicted_tokens", "train/predicted_tokens"),
        ("time", "train/seconds"),
    ],
)
def test_runs_are_compared_where_they_had_spent_as_much(
    sweep: Path, command: Command, at: str, unit: str
) -> None:
    import numpy as np

    done = command(f"{RATES}/*=*", "--at", at, "--output", f"at-{at}", module=COMPARE, folder=sweep)
    assert done.code == 0, done.errors
    found = strict(sweep / f"at-{at}" / "compare.json")
    curves = {}
    for _, _, summary, lines, path in jobs(sweep / RATES):
        if summary["status"] == "finished":
            points = [(line[unit], line["eval/loss"]) for line in lines if "eval/loss" in line]
            curves[str(path.relative_to(sweep))] = np.array(points).T
    assert len(curves) == 6
    budget = min(spent[-1] for spent, _ in curves.values())
    assert found["budget"] == pytest.approx(budget)
    for run in found["runs"]:
        if run["folder"] in curves:
            spent, losses = curves[run["folder"]]
            assert run["value"] == pytest.approx(np.interp(budget, spent, losses))
    assert found["keys"] == ["masking.prob", "model.hidden_size"]
    if at == "predicted_tokens":
        text = " ".join(done.output.split())
        assert "trained on after" in text and "prob=0.15, hidden_size=1048576" in text


def test_two_single_runs_are_compared_example_by_example(sweep: Path, command: Command) -> None:
    known = {(rate, seed): (summary, path)
             for rate, seed, summary, _, path in jobs(sweep / RATES)
             if summary["status"] == "finished"}  # fmt: skip
    (base, first), (other, second) = known[0.15, 1], known[0.4, 1]
    done = command(str(first), str(second), module=COMPARE, folder=sweep)
    assert done.code == 0, done.errors
    (folder,) = (sweep / "outputs" / "compare").iterdir()
    found = strict(folder / "compare.json")
    assert [d["verdict"] for d in found["differences"]] == ["one seed"]
    examples = found["examples"]
    gap = other["metrics"]["eval/loss"] - base["metrics"]["eval/loss"]
    assert examples["mean"] == pytest.approx(gap)
    assert examples["low"] < gap < examples["high"]
    assert examples["examples"] == 24 >= examples["documents"] > 1
    assert examples["scope"] == "these two models, not these two settings"
    assert examples["scope"] in " ".join(done.output.split())


def test_settings_within_the_margin_are_the_same(sweep: Path, command: Command) -> None:
    wide = ("--by", "masking.prob", "--margin", "50", "--output", "wide")
    done = command(RATES, *wide, module=COMPARE, folder=sweep)
    assert done.code == 0, done.errors
    assert "prob=0.4 and 0.15 are the same to within 50 nats" in " ".join(done.output.split())
    assert [d["verdict"] for d in strict(sweep / "wide/compare.json")["differences"]] == ["same"]


def test_a_table_and_a_figure_for_a_paper(sweep: Path, command: Command) -> None:
    options = ("--markdown", "--save", "figure.svg", "--output", "paper")
    done = command(RATES, *options, module=COMPARE, folder=sweep)
    assert done.code == 0, done.errors
    assert "\n| setting | seeds | eval/loss |" in done.output
    assert "compare.html" not in done.output, "it is to be piped into a file"
    assert (sweep / "paper" / "compare.html").is_file()
    assert "</svg>" in (sweep / "figure.svg").read_text()


def test_a_home_folder_is_meant_by_its_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "sweep").mkdir()
    assert default_output(["~/sweep"]) == tmp_path / "sweep"
    options = options_parser().parse_args(["--save", "~/figure.pdf"])
    assert options.save == tmp_path / "figure.pdf"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "nowhere: no such folder."),
        (("now*",), "now*: no such folder."),
        (("cache",), "cache: no run is there, nor below it."),
        ((RATES, "--metric", "eval/los"), "--metric eval/los: no run has it."),
        ((RATES, "metric=eval/loss"), "an option is written --metric eval/loss."),
        ((RATES, "--by", "masking.prop"), "Did you mean 'masking.prob'?"),
        ((RATES, "--at", "token"), "Did you mean 'tokens'?"),
        ((RATES, "--baseline", "masking.prob=0.3"), "fits no settings"),
        ((RATES, "--output", "cache/a-file/x"), "cache/a-file/x: cannot be written ("),
        ((RATES, "--margin", "-1"), "--margin=-1.0: must be a number, 0 or above."),
        ((RATES, "--save", "a.gif"), "--save: must end in .pdf, .svg, .png, not a.gif."),
        ((RATES, "--latex", "--list"), "not allowed with argument"),
        ((), "the following arguments are required: PATH"),
    ],
)
def test_a_mistake_is_one_line(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    (sweep / "cache" / "a-file").touch()
    monkeypatch.chdir(sweep)
    monkeypatch.setattr(sys, "argv", [COMPARE, *arguments])
    monkeypatch.setenv("PYTHONIOENCODING", "")
    with pytest.raises(SystemExit) as caught:
        main()
    (line,) = str(caught.value).splitlines()
    assert line.startswith("error: ") and said in line


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"metric": "eval/los"}, "metric=eval/los: no run has it."),
        ({"by": "masking.prop"}, "by=masking.prop: no such key."),
        ({"at": "token"}, "at=token: must be one of"),
        ({"evaluation": "no"}, "evaluation=no: no run has it."),
    ],
)
def test_python_names_the_argument(sweep: Path, given: dict[str, str], error: str) -> None:
    with pytest.raises(UserError, match=rf"^{re.escape(error)}"):
        bertexp.compare(sweep / RATES, **given)


def test_a_mistake_is_an_error_of_the_command(sweep: Path, command: Command) -> None:
    done = command("nowhere", module=COMPARE, folder=sweep)
    assert (done.code, done.lines) == (1, ["error: nowhere: no such folder."])


@pytest.fixture(scope="module")
def long_run(sweep: Path, forkserver: ForkServer, clean_environment: dict[str, str]) -> Process:
    """A run on another bank, evaluated at step 20, that goes on for as long as it is let."""
    process = forkserver.start(
        *("-m", "bertexp", *SMALL, "trainer.max_steps=1000000"),
        *("trainer.epochs=null", "evaluation.max_examples=8"),
        "hydra.run.dir=outputs/sweeps/long/only",
        folder=sweep,
        environment=clean_environment | {"BERTEXP_CACHE": str(sweep / "cache")},
    )
    record = sweep / "outputs" / "sweeps" / "long" / "only" / "metrics.jsonl"
    process.until(lambda: record.exists() and '"step": 25, "eval/loss"' in record.read_text())
    return process


@pytest.fixture
def watching(forkserver: ForkServer, sweep: Path, clean_environment: dict[str, str]) -> Process:
    """The command that watches the long run, once it has shown a table."""
    watch = ("-m", COMPARE, "outputs/sweeps/long", "--watch")
    process = forkserver.start(*watch, folder=sweep, environment=clean_environment)
    process.until(lambda: "running" in process.output)
    return process


@pytest.mark.usefixtures("long_run")
def test_a_running_run_on_another_bank_is_shown_and_nothing_ranked(
    sweep: Path, command: Command
) -> None:
    done = command(
        "outputs/sweeps", "--by", "masking.prob", "--output", "mixed", module=COMPARE, folder=sweep
    )
    assert done.code == 0, done.errors
    assert "! Not ranked: the bank of eval/loss is not the same" in done.output
    assert re.search(r"masking\.prob=0\.15 +0 +running", done.output)
    found = strict(sweep / "mixed" / "compare.json")
    assert (found["ranked"], found["differences"], found["baseline"]) == (False, [], None)
    for word in ("better", "worse", "verdict", "difference", "resolved"):
        assert word not in done.output


@pytest.mark.usefixtures("long_run")
def test_watching_is_ended_quietly(watching: Process) -> None:
    os.kill(watching.pid, signal.SIGINT)
    assert (watching.end(60), watching.errors) == (130, "")


def test_a_run_is_watched_until_it_ends(long_run: Process, watching: Process) -> None:
    os.kill(long_run.pid, signal.SIGINT)
    assert (watching.end(120), watching.errors) == (0, "")
    assert re.search(r"all runs +0 +interrupted", watching.output)
    assert "outputs/sweeps/long/compare.json" in watching.output


def test_a_sweep_of_tokenizers_ends_with_their_bits_per_byte(command: Command) -> None:
    done = command(
        *("-m", *SMALL, "tokenizer=wordpiece,bpe", "seed=0,1", "sweep=cuts"),
        *("trainer.max_steps=4", "evaluation.pseudo_perplexity=8", "tokenizer.vocab_size=300"),
    )
    assert done.code == 0, done.lines
    folder = done.folder / "outputs" / "sweeps" / "cuts"
    found = strict(folder / "compare.json")
    assert (found["metric"], found["ranked"]) == ("eval/bits_per_byte", True)
    assert {s["label"] for s in found["settings"]} == {"tokenizer=bpe", "tokenizer=wordpiece"}
    runs = [strict(path) for path in folder.glob("*/summary.json")]
    assert len({run["fingerprints"]["tokenizer"] for run in runs}) == 2
    assert len({run["fingerprints"]["bank"]["eval/bits_per_byte"] for run in runs}) == 1
    assert sum("-bpe-" in run["tracker_id"] for run in runs) == 2
    assert "eval/bits_per_byte is what they are compared by" in " ".join(done.output.split())
    assert re.search(r"than wordpiece by [\d.]+ bits/byte|Not resolved: tokenizer=bpe", done.output)
    assert "bits/byte" in (folder / "compare.html").read_text()
    by_loss = command(
        *("outputs/sweeps/cuts", "--metric", "eval/loss"), module=COMPARE, folder=done.folder
    )
    assert "! Not ranked: the runs have different tokenizers" in by_loss.output
