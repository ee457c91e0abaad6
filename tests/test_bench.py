"""``python -m bertexp.bench`` measures what it reports; how fast that is, no test depends on."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bertexp.bench import costs, race, stopwatch
from bertexp.bench.costs import measure_masking
from bertexp.bench.race import measure_training
from bertexp.bench.side import main as measure_side
from bertexp.bench.stopwatch import Stopwatch
from bertexp.bench.work import (
    BERTEXP,
    LONGEST,
    PADDED,
    TUNED,
    compose,
    compose_work,
    prepare_work,
    run_process,
    write_model,
)
from bertexp.masking import STRATEGIES
from bertexp.validation import UserError

SMALL = (
    *("dataset=synthetic", "dataset.synthetic.documents=60", "task.max_length=64"),
    *("tokenizer.vocab_size=256", "bench.repeats=1"),
)
BRIEF = ('bench.settings=["model=tiny"]', "bench.steps=2", "bench.warmup=1", "bench.vocab_size=300")


def figures(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("outputs/bench/*/bench.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_warm_up_lasts_until_steps_are_no_longer_getting_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: now)
    measured = Stopwatch(warmup=2, steps=5, windows=3, seconds=1.0)
    steps = 0
    while not measured.is_over:
        # One that compiles, then faster ones up to 0.1 s each.
        now += max(0.1, 0.5 * 0.9**steps) if steps else 30
        steps += 1
        measured.tick(10 * steps)
    assert measured.speeds == pytest.approx([100.0] * 3)
    assert measured.seconds == pytest.approx(3.0, abs=0.4)
    assert measured.tokens == pytest.approx(100 * measured.seconds)
    assert 35 < measured.warmup_seconds < 40


def test_without_windows_of_time_so_many_steps_are_measured() -> None:
    measured = Stopwatch(warmup=3, steps=12)
    for step in range(1, 16):
        assert not measured.is_over
        measured.tick(step * 8)
    assert measured.is_over
    assert measured.tokens == 12 * 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "sides"),
    [("mlm", (BERTEXP, TUNED)), ("nsp", (BERTEXP, PADDED, LONGEST))],
)
def test_every_side_begins_with_the_same_model_and_batch(
    task: str, sides: tuple[str, ...], empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, in windows of time."""
    overrides = [*SMALL, f"task={task}", "bench.vocab_size=300", "trainer.batch_size=4"]
    config = compose_work(overrides, "tiny")
    write_model(config, prepare_work(config), empty_cache / "initial")
    order: dict[str, Any] = {"model": "tiny", "overrides": overrides, "steps": 5, "loss_steps": 0}
    order |= {"folder": str(empty_cache / "initial"), "windows": 2, "seconds": 0.02}
    results = {side: empty_cache / f"{number}.json" for number, side in enumerate(sides)}
    orders = [order | {"side": side, "result": str(path)} for side, path in results.items()]
    monkeypatch.setattr(sys, "argv", ["side", *map(json.dumps, orders)])
    measure_side()
    measured = [json.loads(path.read_text()) for path in results.values()]
    for found in measured:
        assert len(found["speeds"]) == 2
        assert found["seconds"] >= 2 * 0.02
        assert min(found["speeds"]) <= found["tokens"] / found["seconds"] <= max(found["speeds"])
        assert found["parameters"] == measured[0]["parameters"]
        assert found["first_loss"] == pytest.approx(measured[0]["first_loss"], abs=1e-4)
        assert task != "mlm" or found["tokens"] % (4 * 64) == 0


def measure_here(arguments: list[str], *_: Any) -> str:
    """Measure a side in this process, instead of in one that first has to load everything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["side", *arguments[2:]])
        measure_side()
    return ""


@pytest.mark.slow
def test_on_a_gpu_what_is_not_measured_is_named_and_a_failure_is_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The processes of a GPU's benchmark, run here; each is ended before its last setting."""
    monkeypatch.setenv("BERTEXP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(race, "WINDOW_SECONDS", 0.02)
    given: list[float] = []

    def ended(arguments: list[str], environment: dict[str, str], seconds: float) -> str:
        given.append(seconds)
        measure_here(arguments[:-1])
        if len(given) == 2:
            raise UserError("Trainer has no memory left")
        return ""

    monkeypatch.setattr(race, "run_process", ended)
    sizes = json.dumps([f"trainer.batch_size={size}" for size in (4, 6, 8)])
    overrides = [*SMALL, "bench.vocab_size=300", "bench.steps=2"]
    config = compose([*overrides, f"bench.settings={sizes}", "bench.seconds=1000000"])
    config = replace(config, bench=config.bench.resolved(on_gpu=True))
    # After the results of what was measured.
    with pytest.raises(UserError, match="Trainer has no memory left"):
        measure_training(config, overrides, tmp_path, on_gpu=True)
    printed = capsys.readouterr().out
    assert re.findall(r"^(\d, .*?) +[\d,]+ ", printed, re.MULTILINE)[:3] == [
        "4, bertexp",
        "4, Trainer, tuned",
        "6, bertexp",
    ]
    named = "not measured (bench.seconds=1e+06): 6, Trainer, tuned; 8, bertexp; 8, Trainer, tuned"
    assert named in printed
    assert (tmp_path / "bench.png").stat().st_size > 5_000
    # Of the time, 0.6 for bertexp, and what is left for Trainer.
    assert given[0] / given[1] == pytest.approx(0.6, rel=0.01)


@pytest.mark.slow
def test_both_sides_do_the_same_work(
    empty_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(race, "run_process", measure_here)
    overrides = [*SMALL, *BRIEF, "evaluation.max_examples=16", "bench.loss_steps=4"]
    found = measure_training(compose(overrides), overrides, tmp_path, on_gpu=False)["tiny"]
    printed = capsys.readouterr().out
    first, *others = [each for (each,) in found["measured"].values()]
    assert len(others) == 2
    for other in others:
        assert other["parameters"] == first["parameters"]
        assert other["first_loss"] == pytest.approx(first["first_loss"], abs=1e-4)
        assert other["tokens"] == first["tokens"] == 2 * 32 * 64
    # The table shows what was measured.
    for side, (each,) in found["measured"].items():
        speed = each["tokens"] / each["seconds"]
        assert re.search(rf"tiny, {side} +{speed:,.0f} ", printed), printed
        assert 1e8 < each["peak_bytes"] < 1e11
    assert 0 < found["utilisation"] < 1
    assert 0 < found["model_utilisation"] < 1
    ours, theirs = found["losses"]
    # The same beginning, rates and amount of text: hardly another loss so soon.
    assert ours == pytest.approx(theirs, rel=0.05)
    assert (tmp_path / "bench.png").stat().st_size > 5_000
    assert max(map(len, printed.splitlines())) <= 80 + len(str(tmp_path))


def test_another_checkout_is_measured_beside_this_one(command: Callable[..., Any]) -> None:
    before = f"bench.against={Path(__file__).parents[1]}"
    done = command(*SMALL, *BRIEF, before, "bench.repeats=1", module="bertexp.bench")
    assert done.code == 0, done.output + done.errors
    measured = figures(done.folder)["training"]["tiny"]["measured"]
    ours, theirs = measured.values()
    assert len(ours) == len(theirs) == 1
    for one, other in zip(ours, theirs, strict=True):
        assert one["tokens"] == other["tokens"]
        assert one["first_loss"] == other["first_loss"]
    # In turn.
    order = [line.split(" · ")[1] for line in done.output.splitlines() if " of 1" in line]
    assert order == ["bertexp", "bertexp, against"]
    assert re.search(r"^tiny, bertexp, against .*\d\.\d\dx", done.output, re.MULTILINE)


def test_objectives_are_measured_beside_the_first(command: Callable[..., Any]) -> None:
    chosen = "bench.objectives=[task=mlm,task=mlm masking.prob=0.6]"
    done = command(*SMALL, *BRIEF, "bench.what=[objectives]", chosen, module="bertexp.bench")
    assert done.code == 0, done.output + done.errors
    first, more = figures(done.folder)["objectives"].values()
    # The same text, and the predictions that were configured.
    assert first["tokens"] == more["tokens"]
    assert first["predictions"] == pytest.approx(0.15 * first["tokens"], rel=0.2)
    assert more["predictions"] == pytest.approx(0.6 * first["tokens"], rel=0.2)
    assert first["time"] == first["work"] == 1 < more["work"]
    for own in (first, more):
        assert f" {own['tokens'] / own['seconds']:,.0f} " in done.output
    assert max(map(len, done.output.splitlines())) <= 80 + len(str(done.folder))


@pytest.mark.slow
def test_every_strategy_is_measured_beside_the_collator(
    empty_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cost = measure_masking(compose([*SMALL, "masking.pmi.min_count=2"]))
    assert set(cost["mask_ms"]) == set(STRATEGIES.names())
    assert set(cost["batch_ms"]) == {*STRATEGIES.names(), "DataCollatorForLanguageModeling"}
    assert cost["batch_size"] == 32
    for times in (cost["mask_ms"], cost["batch_ms"]):
        assert all(0 < time < 1e4 for time in times.values())
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


@pytest.mark.slow
def test_preparation_is_measured_beside_encode_batch(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert costs._fresh(os.getpid) != os.getpid(), "in a process of its own"
    # Loading the libraries in each of them takes longer than all else.
    monkeypatch.setattr(costs, "_fresh", lambda function, *arguments: function(*arguments))
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "")
    cost = costs.measure_preparation(
        compose([*SMALL, "bench.megabytes=0.3", "hardware.num_workers=2"])
    )
    assert cost["megabytes"] == pytest.approx(0.3, rel=0.05)
    corpora = [*(empty_cache / "tokens").glob("*")]
    assert not corpora, "the measured text does not go into the user's cache"
    assert set(cost["seconds"]) == set(cost["peak_megabytes"]) == {1, 2}
    printed = capsys.readouterr().out
    for seconds in (*cost["seconds"].values(), cost["encode_batch_seconds"]):
        assert f" {seconds:.1f} " in printed
    assert 0 < cost["second_start_seconds"] < min(cost["seconds"].values())
    assert max(map(len, printed.splitlines())) <= 80


@pytest.mark.parametrize(
    ("measure", "wrong", "message"),
    [
        (measure_masking, ["task=nsp"], "bench: task=nsp masks nothing; use task=mlm."),
        (prepare_work, ["trainer.batch_size=100000"], "size=100000: the corpus has only"),
        (prepare_work, ["task=sop"], "bench: task=sop is not measured; use task=mlm or nsp."),
    ],
)
def test_what_cannot_be_measured_is_a_mistake(
    empty_cache: Path, measure: Callable[..., Any], wrong: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        measure(compose([*SMALL, *wrong]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            ["bench.what=[objectives]", "bench.objectives=[task=mlm,task=mln]"],
            "task=mln: must be one of clm, ",
        ),
        (["bench.settings=['model=tinny']"], "model=tinny: must be one of base, "),
        (["optimizer=muon"], "optimizer=muon: must be adamw, which Trainer has too"),
        (["bench.against=nowhere"], "bench.against=nowhere: must be the folder of a checkout"),
    ],
)
def test_a_mistake_is_one_line(command: Callable[..., Any], wrong: list[str], message: str) -> None:
    done = command(*SMALL, *BRIEF, *wrong, module="bertexp.bench")
    assert (done.code, len(done.lines)) == (1, 1)
    assert done.lines[0].startswith(f"error: {message}")


def test_a_process_that_fails_is_the_last_line_of_its_errors() -> None:
    with pytest.raises(UserError, match=r"^wrong$"):
        run_process(["-c", "import sys; print('warning', file=sys.stderr); sys.exit('wrong')"])
