"""What runs come to side by side: values, verdicts, and what a reader is warned of."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertexp.compare.budgets import common_budget, value_at
from bertexp.compare.comparable import measured_on
from bertexp.compare.comparison import compare
from bertexp.compare.results import Results
from bertexp.compare.runs import Record
from bertexp.compare.verdicts import Criterion, criterion_of
from bertexp.metrics import METRICS, register_rows

MakeRun = Callable[..., Record]


def sweep(make_run: MakeRun, **more: Any) -> list[Record]:
    """Three rates, three seeds: 0.4 is clearly better than 0.15, and 0.1 hardly differs."""
    gain = {0.1: (0.03, -0.02, 0.01), 0.15: (0.0, 0.0, 0.0), 0.4: (-0.5, -0.51, -0.49)}
    return [
        make_run((3.0, 2.0 + seed + by), seed=seed, masking__prob=prob, **more)
        for prob, gains in gain.items()
        for seed, by in enumerate(gains)
    ]


def verdicts(found: Results) -> dict[str, str]:
    return {difference.setting: difference.verdict for difference in found.differences}


def test_settings_are_ranked_and_judged_against_the_shipped_rate(make_run: MakeRun) -> None:
    found = compare(sweep(make_run))
    assert (found.metric, found.at, found.budget) == ("eval/loss", "steps", 20)
    assert found.keys == ("masking.prob",) and found.ranked and not found.warnings
    assert [setting.label for setting in found.settings] == [
        *("masking.prob=0.4", "masking.prob=0.15", "masking.prob=0.1"),
    ]
    assert found.settings[0].mean == pytest.approx(2.5)
    assert found.settings[0].runs == 3
    assert found.baseline == "masking.prob=0.15"
    assert verdicts(found) == {
        "masking.prob=0.1": "not resolved",
        "masking.prob=0.4": "better",
    }
    assert [run.value for run in found.runs if run.setting == found.baseline] == [2.0, 3.0, 4.0]
    pooled = compare(sweep(make_run), by=["task.max_length"])
    assert any("pool runs that differ in masking.prob" in line for line in pooled.warnings)
    (setting,) = compare([run for run in sweep(make_run) if "0.4" in str(run.folder)]).settings
    assert (setting.label, setting.mean) == ("all runs", pytest.approx(2.5))
    other = compare(sweep(make_run), baseline="masking.prob=0.4")
    assert verdicts(other)["masking.prob=0.15"] == "worse"


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(9)))
def test_the_order_of_the_runs_does_not_matter(make_run: MakeRun, order: list[int]) -> None:
    runs = sweep(make_run)
    expected = compare(runs, baseline="masking.prob=0.1")
    found = compare([runs[i] for i in order], baseline="masking.prob=0.1")
    same = [field.name for field in dataclasses.fields(Results) if field.name != "runs"]
    # Sums of floats depend on the order in their last digit.
    for name in set(same) - {"settings", "differences"}:
        assert getattr(found, name) == getattr(expected, name)
    assert verdicts(found) == verdicts(expected)
    means = [setting.mean for setting in expected.settings]
    assert [setting.mean for setting in found.settings] == pytest.approx(means)


def test_values_are_read_where_all_finished_runs_have_been(make_run: MakeRun) -> None:
    runs = [
        make_run((4.0, 3.0, 2.0, 1.0), masking__prob=0.15),
        make_run((4.0, 2.0), masking__prob=0.4, tokens_per_step=150.0),
        make_run((4.0,), masking__prob=0.15, seed=1, status="running"),
        make_run((4.0, 3.5, 3.0), masking__prob=0.4, seed=1, status="failed"),
    ]
    found = compare(runs)
    assert found.budget == 20
    assert [run.value for run in found.runs] == [3.0, 2.0, None, 3.5]
    assert found.runs[2].error == "has no eval/loss at 20 steps: it ended at 10 steps"
    assert [run.status for run in found.runs[2:]] == ["running", "failed"]
    by_tokens = compare(runs, at="tokens")
    assert by_tokens.budget == 3000
    assert [run.value for run in by_tokens.runs] == [2.0, 2.0, None, 3.0]
    assert by_tokens.runs[1].curve == ((1500, 4.0), (3000, 2.0))
    notes = "\n".join(found.warnings)
    assert "masking.prob=0.15: 1 of 2 runs without a value" in notes
    assert "2 of 3 runs trained on after 20 steps" in notes
    assert "it has 100 to 150 tokens; --at tokens compares at equal ones" in notes
    assert not any("--at tokens" in line for line in by_tokens.warnings)


@pytest.mark.parametrize(("start", "every"), [([9.0], 100), ([], 100), ([9.0], 5000)])
def test_runs_first_evaluated_too_late_say_what_to_set(
    make_run: MakeRun, start: list[float], every: int
) -> None:
    """A run at 40% has spent twice as many predicted tokens at every step."""
    runs = []
    for rate, each in ((0.15, 50.0), (0.4, 150.0)):
        run = make_run([*start, 4.0, 3.0], every=100, seed=0, masking__prob=rate,
                       evaluation__every=every)  # fmt: skip
        history = [
            {"step": 100 * n, "train/predicted_tokens": 100 * n * each, "eval/loss": loss}
            for n, loss in enumerate([*start, 4.0, 3.0], 1 - len(start))
        ]
        runs.append(dataclasses.replace(run, history=history))
    found = compare(runs, at="predicted_tokens")
    (line,) = (line for line in found.warnings if "before their first step" in line)
    assert line.startswith("1 of 2 runs had no evaluation up to 10k predicted tokens")
    assert "evaluation.every=66 gives them one" in line
    # On the straight line from the model before its first step it would look worse than it was.
    assert found.runs[1].value is None and found.runs[0].value is not None
    assert found.runs[1].error == (
        "was not evaluated from its first step to 15k predicted tokens, and is compared at 10k "
        "predicted tokens"
    )
    assert found.differences == () and "better" not in "".join(found.warnings)


def test_runs_with_a_budget_of_tokens_are_compared_at_their_ends(make_run: MakeRun) -> None:
    """Rows of another format have fewer tokens, and the last batch exceeds the budget."""
    runs = []
    for form, steps, tokens in (("blocks", 496, 960_446), ("packed", 513, 961_569)):
        run = make_run([2.0], task__format=form, trainer__max_tokens=960_000)
        history = [
            {"step": step, "train/tokens": spent, "eval/loss": loss}
            for step, spent, loss in ((0, 0, 6.0), (steps, tokens, 2.0 + (form == "packed")))
        ]
        runs.append(dataclasses.replace(run, history=history))
    found = compare(runs)
    assert (found.at, found.budget) == ("tokens", 960_446)
    assert [run.value for run in found.runs] == [2.0, 3.0]
    assert [run.error for run in found.runs] == [None, None]
    assert not any("no evaluation" in line for line in found.warnings)
    # At equal steps one of them is far from its end, and was not evaluated there.
    by_steps = compare(runs, at="steps")
    assert [run.value for run in by_steps.runs] == [2.0, None]
    one_longer = [
        runs[0],
        dataclasses.replace(runs[1], config={**runs[1].config, "trainer.epochs": 1}),
    ]
    assert compare(one_longer, by=["task.format"]).at == "steps"


@pytest.mark.parametrize(("length", "noted"), [(1.0, []), (1.5, ["850 to 1,275 tokens"])])
def test_steps_of_other_sizes_are_noted_by_setting_not_by_seed(
    make_run: MakeRun, length: float, noted: list[str]
) -> None:
    """Seeds differ in the texts that they read, in pairs of runs alike."""
    runs = [
        make_run(seed=seed, masking__prob=rate, tokens_per_step=tokens * factor)
        for rate, factor in ((0.15, 1.0), (0.4, length))
        for seed, tokens in enumerate((800.0, 900.0))
    ]
    found = [line for line in compare(runs).warnings if "A step is not the same" in line]
    assert [re.findall(r"has (.* tokens);", line)[0] for line in found] == noted


def test_while_nothing_has_finished_all_that_was_evaluated_counts(make_run: MakeRun) -> None:
    runs = [
        make_run((4.0, 3.0), seed=0, status="running"),
        make_run((4.5,), seed=1, status="running"),
        make_run((), seed=2, status="running"),
    ]
    found = compare(runs)
    assert (found.budget, found.settings[0].mean) == (10, 4.25)
    assert found.runs[2].error == "has no eval/loss"
    nothing = compare(runs[2:])
    assert (nothing.budget, nothing.settings[0].mean, nothing.differences) == (None, None, ())
    # An evaluation before the first step is no common budget.
    untrained = [{"step": 0, "train/tokens": 0, "eval/loss": 9.0}]
    runs[2] = dataclasses.replace(runs[2], history=untrained)
    assert compare(runs).budget == 10
    assert compare(runs[2:]).budget == 0


def test_a_run_that_diverged_is_no_value_and_does_not_end_the_others(make_run: MakeRun) -> None:
    runs = [make_run((4.0, 3.0), seed=0), make_run((4.0, None), seed=1)]
    found = compare(runs)
    assert (found.budget, found.runs[1].value) == (20, None)
    assert found.runs[1].error == "eval/loss is not a number"
    assert found.runs[1].curve == ((10, 4.0),)
    assert "all runs: 1 of 2 runs without a value." in found.warnings


def test_a_run_made_over_again_is_counted_once(make_run: MakeRun) -> None:
    runs = [*sweep(make_run), make_run((3.0, 9.0), masking__prob=0.4, written=5.0, folder="again")]
    found = compare(runs)
    assert found.runs[-1].value == 9.0
    (left_out,) = (run for run in found.runs if run.error)
    assert (left_out.setting, left_out.seed) == ("masking.prob=0.4", 0)
    assert left_out.error == "a newer run has the same setting and seed"


def test_a_grid_has_its_effects(make_run: MakeRun) -> None:
    runs = [
        make_run((2.0 + seed + rate - (span and 1.5 * seed),), seed=seed,
                 masking__prob=rate, masking__span=span)
        for rate in (0.15, 0.4)
        for span in (0, 10)
        for seed in (0, 1)
    ]  # fmt: skip
    found = compare(runs)
    assert [e.setting for e in found.effects] == ["prob=0.4", "span=10", "prob=0.4 × span=10"]
    assert [e.mean for e in found.effects] == pytest.approx([0.25, -0.75, 0])
    assert not compare(runs, by=["masking.prob"]).effects


def test_runs_fine_tuned_from_one_encoder_count_as_one(make_run: MakeRun) -> None:
    """Six encoders of three seeds, each fine-tuned at two rates under three seeds."""
    runs = [
        dataclasses.replace(
            make_run((1.0 + seed + tuned / 9 - (lr > 1) * (seed + 1) / 10,), seed=tuned, run=path,
                     optimizer__lr=lr),
            encoder=str(seed),
        )
        for seed in range(3)
        for path in (f"a{seed}", f"b{seed}")
        for lr in (1, 2)
        for tuned in range(3)
    ]  # fmt: skip
    found = compare(runs, by=["optimizer.lr"])
    assert [(s.runs, s.seeds) for s in found.settings] == [(18, 3), (18, 3)]
    assert (found.differences[0].seeds, found.differences[0].mean) == (3, pytest.approx(-0.2))
    assert any("were pre-trained with" in line for line in found.warnings)
    alone = compare([run for run in runs if run.config["run"] == "a0"])
    assert alone.differences[0].seeds == 3
    assert any("about these encoders" in line for line in alone.warnings)


def test_a_metric_that_nobody_knows_is_not_ranked_until_its_row_is(make_run: MakeRun) -> None:
    runs = sweep(make_run, metric="eval/bits")
    unknown = compare(runs, metric="eval/bits")
    assert (unknown.ranked, unknown.lower_is_better, unknown.differences) == (False, None, ())
    assert "bertexp.metrics.register('eval/bits', lower_is_better=...)" in unknown.warnings[0]
    register_rows({"eval/bits": {"lower_is_better": True, "unit": "bits"}})
    try:
        assert verdicts(compare(runs, metric="eval/bits"))["masking.prob=0.4"] == "better"
    finally:
        del METRICS["eval/bits"]


@pytest.mark.parametrize("part", ["corpus", "tokenizer", "bank"])
def test_runs_with_other_questions_are_not_ranked(make_run: MakeRun, part: str) -> None:
    same = {"corpus": "c", "tokenizer": "t", "bank": {"mlm": "b"}}
    other = {"mlm": "other"} if part == "bank" else "other"
    runs = [
        *sweep(make_run),
        make_run((3.0, 0.1), masking__prob=0.9, fingerprints=same | {part: other}),
    ]
    found = compare(runs)
    assert not found.ranked
    assert (found.baseline, found.differences, found.examples) == (None, (), None)
    assert found.warnings[0].startswith("Not ranked: ") and part in found.warnings[0]
    assert [setting.values["masking.prob"] for setting in found.settings] == [0.1, 0.15, 0.4, 0.9]
    # Unless it has no value.
    failed = make_run(
        (), status="failed", masking__prob=0.4, seed=9, fingerprints=same | {part: other}
    )
    assert compare([*runs[:-1], failed]).ranked


def test_losses_of_other_predictions_are_refused_with_what_can_be_compared(
    make_run: MakeRun,
) -> None:
    def make(task: str, seed: int, bank: dict[str, str], *more: str) -> Record:
        own = {"eval/loss": 1.0, "eval/probe/word": 0.7} | dict.fromkeys(more, 2.0)
        prints = {"bank": bank | {"eval/probe/word": "p"}, "corpus": "c", "tokenizer": "t"}
        made = make_run((1.0,), task__name=task, seed=seed, fingerprints=prints)
        return dataclasses.replace(made, summary=made.summary | {"metrics": own})

    detected = {"rtd": "r", "generator": "b"}, "eval/rtd_loss", "eval/generator_loss"
    runs = [make("mlm", seed, {"mlm": "b"}) for seed in (0, 1, 2)]
    runs += [make("rtd", seed, *detected) for seed in (0, 1)]
    found = compare(runs, metric="eval/loss")
    assert not found.ranked and found.warnings[0] == (
        "Not ranked: the bank of eval/loss is not the same in all runs (mlm, rtd); compare "
        "those of one bank, or all by --metric eval/probe/word."
    )
    # Runs without a measurement in common, and banks that differ by a key.
    small = dict(
        evaluation__max_examples=64,
        evaluation__pseudo_perplexity=50,
        fingerprints={"bank": {"mlm": "c"}},
    )
    large = dict(
        evaluation__max_examples=256,
        evaluation__pseudo_perplexity=100,
        fingerprints={"bank": {"mlm": "b"}},
    )
    runs = [make_run(**large), make_run(seed=1, **large), make_run(**small)]
    assert compare(runs).warnings[0] == (
        "Not ranked: the bank of eval/loss is not the same in all runs "
        "(evaluation.max_examples=256, 64); compare those of one bank."
    )
    whole = large | {"evaluation__max_examples": None}
    runs = [make_run(**whole), make_run(**small)]
    assert "(evaluation.max_examples=64, null); compare" in compare(runs).warnings[0]
    # And by a key that only some objectives read.
    swaps, others = (
        make_run(task__negatives=negatives, fingerprints={"bank": {"nsp": negatives}})
        for negatives in ("swap", "any_sentence")
    )
    assert (
        "(task.negatives=swap against task.negatives=any_sentence); compare"
        in (compare([swaps, others]).warnings[0])
    )


def test_settings_without_a_choice_within_them_are_pairs_by_seed(make_run: MakeRun) -> None:
    runs = [make_run((2.0, 1.0), task__name="mlm", masking__replace__mask=0.8),
            make_run((2.0, 0.9), task__name="mntp", masking__replace__mask=1.0)]  # fmt: skip
    found = compare(runs, by=["task.name"])
    assert [each.seeds for each in found.differences] == [1]
    assert "Settings differ in masking.replace.mask as well." in found.warnings
    assert not any("pool" in line or "no run is a pair" in line for line in found.warnings)


def test_runs_of_different_tokenizers_are_compared_by_bits_per_byte(make_run: MakeRun) -> None:
    bits, prints = (
        "eval/bits_per_byte",
        {"corpus": "c", "bank": {"mlm": "b", "eval/bits_per_byte": "x"}},
    )

    def make(name: str, value: float, every: int, seed: int = 0, **others: str) -> Record:
        made = make_run((value,), every=every, seed=seed, metric=bits, tokenizer__name=name,
                        fingerprints=prints | {"tokenizer": name} | others)  # fmt: skip
        lines = [*made.history[:-1], made.history[-1] | {"eval/loss": 3.0}]
        metrics = made.summary["metrics"] | {"eval/loss": 3.0}
        return dataclasses.replace(made, history=lines, summary=made.summary | {"metrics": metrics})

    runs = [make("wordpiece", 1.5, 10), make("bpe", 1.4, 12)]
    runs += [make("wordpiece", 1.6, 10, 1), make("bpe", 1.5, 12, 1)]
    found = compare(runs)
    assert (found.metric, found.ranked, found.budget) == (bits, True, None)
    assert [(s.label, s.mean) for s in found.settings] == [
        ("tokenizer=bpe", pytest.approx(1.45)), ("tokenizer=wordpiece", pytest.approx(1.55)),
    ]  # fmt: skip
    assert found.warnings[0] == "Runs are compared at their ends: after 10 steps to 12 steps."
    assert "different tokenizers" in found.warnings[1]
    (refused, *_) = compare(runs, metric="eval/loss").warnings
    assert refused.startswith("Not ranked: the runs have different tokenizers")
    assert all(name in refused for name in (bits, "eval/probe/", "finetune/"))
    # The text must be the same, and families of one tokenizer are compared by their loss.
    other = [make("bpe", 1.3, 10), make("wordpiece", 1.3, 10, corpus="other")]
    assert not compare(other).ranked
    assert compare([runs[0], make("wordpiece", 1.4, 10, 1)]).metric == "eval/loss"


def test_runs_of_different_strategies_are_compared_by_bits_per_byte(make_run: MakeRun) -> None:
    bits = "eval/bits_per_byte"

    def make(strategy: str, value: float, loss: float, name: str = bits) -> Record:
        made = make_run((value,), metric=name, masking__strategy=strategy)
        metrics = made.summary["metrics"] | {"eval/loss": loss}
        lines = [made.history[0] | {"eval/loss": loss}]
        return dataclasses.replace(made, history=lines, summary=made.summary | {"metrics": metrics})

    found = compare([make("token", 1.5, 2.0), make("whole_word", 1.4, 2.1)])
    assert (found.metric, found.ranked) == (bits, True)
    assert [setting.label for setting in found.settings] == [
        *("masking.strategy=whole_word", "masking.strategy=token"),
    ]
    assert any("different masking strategies" in line for line in found.warnings)
    assert compare([make("token", 1.5, 2.0), make("token", 1.4, 2.1)]).metric == "eval/loss"
    # Runs that were not scored so are compared by their loss.
    plain = [make("token", 2.0, 2.0, "eval/loss"), make("span", 2.1, 2.1, "eval/loss")]
    found = compare(plain)
    assert found.metric == "eval/loss"
    assert not any("different masking strategies" in line for line in found.warnings)


def test_other_lengths_and_versions_are_warned_of(make_run: MakeRun) -> None:
    same = {"corpus": "c", "tokenizer": "t", "bank": {"mlm": "b"}}
    runs = [
        make_run(masking__prob=0.15, versions={"git_commit": "a" * 40, "torch": "2.0"}),
        make_run(masking__prob=0.4, versions={"git_commit": "b" * 40 + "+", "torch": "2.1"},
                 fingerprints=same | {"tokens": "u"}),
        make_run(masking__prob=0.5, task__max_length=64,
                 fingerprints=same | {"tokens": "v"}),
    ]  # fmt: skip
    found = compare(runs)
    assert found.ranked
    assert found.warnings == (
        "Runs differ in task.max_length (128, 64).",
        "Runs were trained on different tokens of the same corpus.",
        "Runs are of different versions of the code (0000000, aaaaaaa, bbbbbbb+).",
        "Runs are of different versions of torch (2.0, 2.1).",
    )


@pytest.mark.parametrize(
    ("bank", "metric", "part"),
    [
        ("mlm nsp", "eval/loss", "mlm"),
        ("mlm nsp", "eval/loss@0.4", "mlm"),
        ("mlm nsp", "eval/nsp_accuracy", "nsp"),
        # Whatever stands first: the metrics of nsp have its name in front.
        ("nsp nsp@swap mlm", "eval/loss", "mlm"),
        ("nsp nsp@swap probe/order", "eval/loss", "nsp"),
        ("nsp nsp@swap probe/order", "eval/nsp_loss", "nsp"),
        ("nsp nsp@swap probe/order", "eval/nsp_accuracy@swap", "nsp@swap"),
        ("mlm probe/order", "eval/probe/order", "probe/order"),
        ("eval/bits_per_byte mlm", "eval/bits_per_byte@spelling", "eval/bits_per_byte"),
        ("eval/bits_per_byte mlm", "eval/loss@0.4", "mlm"),
        ("", "eval/loss", None),
    ],
)
def test_a_metric_is_as_comparable_as_its_own_part_of_the_bank(
    bank: str, metric: str, part: str | None
) -> None:
    metrics = {"eval/loss": 1.0, "eval/nsp_loss": 1.0}
    prints = {"bank": {key: key for key in bank.split()}}
    assert measured_on({"fingerprints": prints, "metrics": metrics}, metric) == part
    assert measured_on({}, metric) is None


POINTS = st.lists(
    st.tuples(st.integers(1, 1000), st.floats(-10, 10)),
    min_size=1,
    max_size=8,
    unique_by=lambda point: point[0],
).map(sorted)


@settings(deadline=None)
@given(POINTS, st.floats(0, 1100))
def test_between_evaluations_lies_a_straight_line_and_beyond_them_nothing(
    curve: list[tuple[float, float]], budget: float
) -> None:
    spent, values = zip(*curve, strict=True)
    found = value_at(curve, budget)
    if spent[0] <= budget <= spent[-1]:
        assert found == pytest.approx(np.interp(budget, spent, values))
    elif len(curve) == 1 and budget < spent[0] <= 1.02 * budget:
        assert found == values[0], "its only evaluation is its end"
    else:
        assert found is None


@settings(deadline=None)
@given(st.lists(POINTS, min_size=1, max_size=5))
def test_the_common_budget_is_the_largest_that_all_have_reached(
    curves: list[list[tuple[float, float]]],
) -> None:
    budget = common_budget(curves)
    assert budget is not None
    assert all(curve[-1][0] >= budget for curve in curves)
    assert any(curve[-1] == (budget, value_at(curve, budget)) for curve in curves)


@pytest.mark.parametrize(("metric", "expected"), [("eval/loss", 0.5), ("eval/accuracy", 0.0)])
def test_the_margin_of_a_resolved_sweep_is_of_its_own_metric(
    tmp_path: Path, metric: str, expected: float
) -> None:
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    (sweep / "multirun.yaml").write_text("")
    (sweep / "resolve.json").write_text('{"margin": 0.5, "metric": null}')
    run = Record(sweep / "a", {"seed": 0}, {"metrics": {metric: 1.0}}, [], "finished", None, 0.0)
    assert criterion_of([run], metric, None) == Criterion(expected, anytime=True)
