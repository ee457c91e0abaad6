"""Probes and fine-tuned figures in comparisons: beside what is compared, and as that."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from bertexp import metrics
from bertexp.compare.comparison import compare
from bertexp.compare.page import write_page
from bertexp.compare.results import write_csv_file, write_json_file
from bertexp.compare.runs import Record
from bertexp.compare.sweep import setting_rows
from bertexp.compare.table import render

PROBE, TUNED = "eval/probe/package", "finetune/rte/accuracy"
Make = Callable[..., Record]


@pytest.fixture
def having(make_run: Make) -> Make:
    """Return a function that makes up a run with metrics at its end, and what they ask."""

    def make(rate: float, seed: int, figures: Mapping[str, float], asked: str = "p") -> Record:
        run = make_run([3.0 - rate], seed=seed, masking__prob=rate)
        bank = {"mlm": "b", "probe/package": asked, TUNED: "f"}
        # The tokenizers differ: what is right does not depend on them.
        prints = {"corpus": "c", "tokenizer": f"t{rate}", "bank": bank}
        summary = {**run.summary, "fingerprints": prints, "answered": {PROBE: 78}}
        summary["metrics"] = {**summary["metrics"], **figures}
        return replace(run, summary=summary, history=[{**run.history[0], **figures}])

    return make


def printed(runs: list[Record]) -> list[str]:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(render(compare(runs)))
    return captured.get().splitlines()


def test_probes_and_fine_tuned_figures_can_be_compared(having: Make) -> None:
    runs = [
        having(rate, seed, {PROBE: rate + seed / 100, TUNED: 0.9 - rate + seed / 100})
        for rate in (0.15, 0.4)
        for seed in range(3)
    ]
    probes, tuned = compare(runs, metric=PROBE), compare(runs, metric=TUNED)
    assert not probes.lower_is_better
    assert probes.ranked and tuned.ranked
    assert probes.settings[0].values == {"masking.prob": 0.4}
    assert tuned.settings[0].values == {"masking.prob": 0.15}
    assert probes.differences[0].mean == pytest.approx(0.25)
    # Losses of models with different tokenizers are another matter.
    assert not compare(runs).ranked


def test_what_encoders_can_do_stands_beside_any_metric(having: Make) -> None:
    runs = [
        having(rate, seed, {PROBE: 0.5, TUNED: value})
        for rate in (0.15, 0.4)
        for seed, value in enumerate((0.6, 0.7, 0.95))
    ]
    runs.append(replace(having(0.4, 3, {PROBE: 0.0}), status="failed"))
    found = {(one.metric, one.setting): one for one in compare(runs).abilities}
    assert len(found) == 4
    tuned = found[TUNED, "masking.prob=0.4"]
    assert (tuned.seeds, tuned.lowest, tuned.median, tuned.highest) == (3, 0.6, 0.7, 0.95)
    assert found[PROBE, "masking.prob=0.4"].mean == 0.5
    lines = printed(runs)
    (head,) = (n for n, line in enumerate(lines) if "lowest" in line)
    # Within the range of an accuracy: 0.750 ± 0.448 would not be.
    shown = ["0.15", "3", "0.750", "(.22–.97)", "0.700", "0.600", "0.950"]
    assert lines[head + 1].split() == shown


def test_five_settings_of_three_seeds_fit_on_a_terminal(having: Make) -> None:
    probes = {f"eval/probe/{name}": 0.5 for name in ("package", "order", "word", "length")}
    runs = [
        having(rate, seed, {**probes, PROBE: 0.5 + rate / 10 + seed / 100, TUNED: 0.5 + seed / 50})
        for rate in (0.1, 0.15, 0.25, 0.4, 0.6)
        for seed in range(3)
    ]
    lines = printed(runs)
    assert all(len(line) <= 80 for line in lines)
    (head,) = (n for n, line in enumerate(lines) if "probe/package" in line)
    names = ["probe/package", "probe/order", "probe/word", "probe/length"]
    assert lines[head].split() == ["masking.prob", *names]
    # A row a setting, and no cell on two lines.
    assert [line.split()[:3] for line in lines[head + 1 : head + 6]] == [
        ["0.1", "0.520", "(.50–.54)"],
        ["0.15", "0.525", "(.50–.55)"],
        ["0.25", "0.535", "(.51–.56)"],
        ["0.4", "0.550", "(.53–.57)"],
        ["0.6", "0.570", "(.55–.59)"],
    ]
    (head,) = (n for n, line in enumerate(lines) if "lowest" in line)
    assert lines[head].split() == [
        *("masking.prob", "seeds", "finetune/rte/accuracy", "median", "lowest", "highest")
    ]
    assert lines[head + 1].split()[:3] == ["0.1", "3", "0.520"]
    said = " ".join(" ".join(lines).split())
    assert "Probes: accuracy of a linear classifier" in said
    assert "Fine-tuned: on the task's validation data" in said


def test_probes_stand_above_their_yardsticks(having: Make) -> None:
    run = having(0.15, 0, {PROBE: 0.5, "eval/probe/order": 0.6, TUNED: 0.5})
    probed = {"name": "package", "accuracy": 0.5, "majority": 0.125, "tfidf": 0.8, "layers": []}
    probed |= {"untrained": 0.3, "control": 0.1}
    asked, runs = [probed.copy(), {**probed, "name": "word"}], []
    run = replace(run, summary={**run.summary, "probes": asked})
    # Of what is not compared, here the word, nothing is said.
    assert [one.metric for one in compare([run]).yardsticks] == [PROBE]
    lines = [line.split() for line in printed([run])]
    assert ["majority", "0.125", "–"] in lines
    assert ["TF-IDF", "0.800", "–"] in lines
    for own, share in ((0.3, 0.1), (0.5, 0.15)):
        probed |= {"untrained": own, "control": share}
        runs.append(replace(run, summary={**run.summary, "probes": [dict(probed)]}))
    lines = [line.split() for line in printed(runs)]
    assert ["untrained", "0.400", "–"] in lines
    assert ["random", "labels", "0.125", "–"] in lines


def test_files_have_what_the_table_has(having: Make, tmp_path: Path) -> None:
    runs = [
        having(rate, seed, {PROBE: rate + seed / 100, TUNED: 0.9 - rate})
        for rate in (0.15, 0.4)
        for seed in range(2)
    ]
    comparison = compare(runs)
    found = json.loads(write_json_file(comparison, tmp_path).read_text())["abilities"]
    assert {(one["metric"], one["setting"], one["seeds"]) for one in found} == {
        (metric, f"masking.prob={rate}", 2) for metric in (PROBE, TUNED) for rate in (0.15, 0.4)
    }
    assert found[0]["low"] < found[0]["mean"] < found[0]["high"]
    with write_csv_file(comparison, tmp_path).open() as file:
        rows = [*csv.DictReader(file)]
    assert {(row["masking.prob"], row["seed"], row[PROBE]) for row in rows} == {
        (str(rate), str(seed), str(rate + seed / 100)) for rate in (0.15, 0.4) for seed in (0, 1)
    }
    assert {row[TUNED] for row in rows} == {"0.75", "0.5"}
    # What trackers show of it.
    columns, settings = setting_rows(comparison)
    told = [dict(zip(columns, row, strict=True)) for row in settings]
    assert {(row["label"], round(float(row[PROBE]), 6), row[TUNED]) for row in told} == {
        ("masking.prob=0.15", 0.155, 0.75), ("masking.prob=0.4", 0.405, 0.5)
    }  # fmt: skip


def test_losses_and_figures_of_other_texts_are_not_shown(having: Make) -> None:
    losses = {"finetune/rte/loss": 0.7, "finetune/mnli/loss@mismatched": 1.1}
    (only,) = compare([having(0.15, 0, {TUNED: 0.5, **losses})]).abilities
    assert only.metric == TUNED
    runs = [having(rate, 0, {PROBE: 0.5}, asked=f"p{rate}") for rate in (0.15, 0.4)]
    assert compare(runs).abilities == ()
    assert f"the bank of {PROBE} is not the same" in compare(runs, metric=PROBE).warnings[0]


def test_a_metric_of_ones_own_is_shown_where_its_row_says(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = metrics.Metric(lower_is_better=True, comparison=True, meaning="bits of a byte")
    monkeypatch.setitem(metrics.METRICS, "eval/bits", row)
    runs = [make_run(masking__prob=rate) for rate in (0.15, 0.4)]
    for run in runs:
        run.summary["metrics"]["eval/bits"] = 1 + run.config["masking.prob"]
    text = " ".join(" ".join(printed(runs)).split())
    assert "bits 0.15 1.150 0.4 1.400" in text and "eval/bits: bits of a byte." in text
    page = write_page(compare(runs), tmp_path).read_text()
    # The least is the best, and alone is in bold.
    assert re.findall(r'<span class="best">(.*?)</span>', page) == ["1.150"]
    assert 'title="bits of a byte"' in page
