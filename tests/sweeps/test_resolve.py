"""``hydra/sweeper=resolve`` as a command: rounds, resuming, its verdicts and its errors."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forkserver import ForkServer
from hydra.core.override_parser.overrides_parser import OverridesParser

from bertexp.sweeps.points import Limits, Varied
from bertexp.validation import UserError

# How tokens are drawn makes hardly a difference, and the high learning rate is far worse.
THREE = (
    *("masking.draw=budget,independent,budget", "optimizer.lr=0.001,0.001,0.3"),
    *("hydra.sweeper.together=[masking.draw,optimizer.lr]", "hydra/sweeper=resolve"),
    *("hydra.sweeper.start_seeds=8", "sweep=three"),
    # Of the 26 jobs each takes a moment.
    *("trainer.max_steps=2", "evaluation.every=null", "evaluation.mask_probs=[0.15]"),
    "model.num_hidden_layers=1",
)
DRAW, RATE = "draw=independent, lr=0.001", "draw=budget, lr=0.3"


def test_seeds_are_added_where_it_is_open_and_an_interrupted_sweep_resumes(
    sweep: Callable[..., Any],
    small: tuple[str, ...],
    jobs: Any,
    command: Callable[..., Any],
    forkserver: ForkServer,
    clean_environment: dict[str, str],
) -> None:
    folder: Path = sweep.keywords["folder"]
    begun = forkserver.start(
        *("-m", "bertexp", "-m", *small, *THREE, "hydra.sweeper.max_seeds=9"),
        folder=folder,
        environment=clean_environment | {"BERTEXP_CACHE": str(folder / "cache")},
    )
    begun.until(lambda: "job 25/26" in begun.output)
    os.kill(begun.pid, signal.SIGINT)
    assert begun.end(60) == 130

    kept = (folder / "outputs/sweeps/three").glob("*seed=[0-7]")
    before = {path.name: (path / "summary.json").stat().st_mtime_ns for path in kept}
    done = sweep(*THREE, "hydra.sweeper.max_seeds=9")
    assert done.code == 0, done.errors
    assert (
        "up to 9 seeds a setting, until it is resolved; limited by hydra.sweeper.max_seeds=9, "
        "max_time=null, margin=0" in done.lines
    )
    found = jobs(done, "three")
    after = {name: (found.root / name / "summary.json").stat().st_mtime_ns for name in before}
    assert len(before) == 24 and after == before

    def pattern(setting: str, verdict: str, seeds: int) -> str:
        return rf"^  {re.escape(setting)}: [+−][\d.]+ nats \(.* to .*\), {verdict}, {seeds} seeds$"

    assert done.lines.count("against draw=budget, lr=0.001:") == 2
    for seeds in (8, 9):
        assert re.search(pattern(DRAW, "not resolved", seeds), done.output, re.M), done.output
    assert len(re.findall(pattern(RATE, "worse", 8), done.output, re.M)) == 2
    assert "Stopped at hydra.sweeper.max_seeds=9; not all settings are resolved." in done.lines
    assert set(found.status().values()) == {"finished"}
    assert len(found.names) == 24 + 2

    comparison = json.loads((found.root / "compare.json").read_text())
    assert comparison["anytime"]
    assert {d["setting"]: (d["verdict"], d["seeds"]) for d in comparison["differences"]} == {
        DRAW: ("not resolved", 9),
        RATE: ("worse", 8),
    }
    assert [len(comparison["looks"][setting]) for setting in (DRAW, RATE)] == [9, 8]

    # Later comparisons of its runs hold at any time too, and know the margin.
    again = command("outputs/sweeps/three", module="bertexp.compare", folder=folder)
    assert "however often one looks" in " ".join(again.output.split())
    assert json.loads((found.root / "compare.json").read_text()) == comparison

    changed = sweep(*THREE, "hydra.sweeper.margin=0.5")
    assert changed.code == 1
    assert changed.errors.splitlines() == [
        "error: hydra.sweeper.margin=0.5: results are known by now, and this sweep was begun with "
        "0; choose another sweep=..."
    ]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("masking.prob=0.1,0.2", "hydra.sweeper.margin=-1"), "margin=-1: must be a number, 0 or"),
        (("masking.prob=0.1,0.2", "hydra.sweeper.max_seeds=6"), "max_seeds=6: must be 7 or more"),
        (("seed=0,1",), "hydra/sweeper=resolve: compares settings; vary a key besides seed."),
        (
            ("masking.prob=0.1,0.2", "hydra.sweeper.metrik=eval/loss"),
            "hydra.sweeper.metrik: no such key. Did you mean 'hydra.sweeper.metric'?",
        ),
        (
            ("masking.prob=0.1,0.2", "hydra.sweeper.margin=1", "hydra/sweeper=grid"),
            "hydra.sweeper.margin: is a key of hydra/sweeper=resolve, which is not chosen.",
        ),
    ],
)
def test_a_mistake_is_one_line(
    sweep: Callable[..., Any], arguments: tuple[str, ...], error: str
) -> None:
    done = sweep("hydra/sweeper=resolve", *arguments)
    (line,) = done.errors.splitlines()
    assert (done.code, error in line) == (1, True), line


@pytest.mark.parametrize(
    "setting", ["hydra/sweeper=resolve", "hydra/launcher=joblib", "hydra.sweep.dir=here"]
)
def test_a_setting_of_sweeps_is_not_ignored_by_a_single_run(
    command: Callable[..., Any], small: tuple[str, ...], setting: str
) -> None:
    done = command(*small, setting)
    assert (done.code, done.lines) == (1, [f"error: {setting}: is for a sweep; add -m."])
    assert done.left == []


LIMITS: dict[str, Any] = {
    "margin": 0.0,
    "metric": None,
    "max_seeds": 50,
    "max_time": None,
    "start_seeds": None,
    "per_round": 1,
}


def varied(*overrides: str) -> Varied:
    parsed = OverridesParser.create().parse_overrides([*overrides])
    return {override.get_key_element(): override for override in parsed}


def test_seeds_count_up_from_the_seed_or_are_those_listed() -> None:
    limits = Limits(**LIMITS)
    assert limits.first_seeds(varied(), 5) == [5, 6, 7]
    assert limits.first_seeds(varied("seed=2"), 0) == [2, 3, 4]
    assert limits.first_seeds(varied("seed=0,4"), 0) == [0, 4]
    some = Limits(**LIMITS | {"start_seeds": 2})
    assert some.first_seeds(varied(), 0) == [0, 1]
    with pytest.raises(UserError, match=r"start_seeds=2: seed=0,4 lists"):
        some.first_seeds(varied("seed=0,4"), 0)
    with pytest.raises(UserError, match=r"seed=x: must be a whole number"):
        limits.first_seeds(varied("seed=x,1"), 0)
    few = Limits(**LIMITS | {"max_seeds": 2})
    with pytest.raises(UserError, match=r"max_seeds=2: must be at least the 3 seeds to start"):
        few.first_seeds(varied(), 0)


@pytest.mark.parametrize(
    ("key", "value"),
    [("max_seeds", 2.5), ("per_round", 0), ("max_time", 0), ("margin", "wide"), ("margin", None)],
)
def test_limits_are_checked(key: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"hydra\.sweeper\.{key}="):
        Limits(**LIMITS | {key: value})
