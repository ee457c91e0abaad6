"""Which runs are taken for repetitions of each other, and which for settings to compare."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from bertexp.compare.runs import Record, read_run
from bertexp.compare.settings import (
    EVALUATION_ONLY,
    differing_keys,
    find_setting,
    group,
    in_order,
    nearest_to_defaults,
)
from bertexp.config import changes_outcome, keys
from bertexp.console import value_text
from bertexp.validation import UserError

MakeRun = Callable[..., Record]
VALUES = st.sampled_from([None, True, 0.15, 0.4, 1, 1.0, "span", [0.1, 0.2]])
CONFIGS = st.lists(
    st.fixed_dictionaries({"seed": st.integers(0, 2), "masking.prob": VALUES, "task.x": VALUES}),
    min_size=1,
    max_size=6,
)


def labels(runs: list[Record], by: Sequence[str] = ()) -> list[str]:
    return [run.setting for run in group(runs, by)[2]]


@settings(deadline=None)
@given(CONFIGS)
def test_settings_differ_exactly_where_runs_do_besides_the_seed(
    configs: list[dict[str, Any]],
) -> None:
    made = [Record(Path(), config, {}, [], "finished", None, 0.0) for config in configs]
    keys, _, runs = group(made)
    for first, second in itertools.product(runs, runs):
        alike = all(value_text(first.config[k]) == value_text(second.config[k]) for k in keys)
        others = {k: value_text(v) for k, v in first.config.items() if k != "seed"}
        assert alike == all(value_text(second.config[k]) == v for k, v in others.items())
        assert alike == (first.setting == second.setting)
        assert (first.pair == second.pair) == (first.seed == second.seed)


@pytest.mark.parametrize(
    ("configs", "expected"),
    [
        # What does not change the outcome makes no settings.
        (
            [
                {"hardware.device": d, "tracker.mode": d, "name": d, "evaluation.every": d}
                for d in "ab"
            ],
            [],
        ),
        ([{"hardware.precision": "bf16"}, {"hardware.precision": "fp32"}], ["hardware.precision"]),
        # A group's name stands for what it sets ...
        (
            [
                {"model.name": "tiny", "model.hidden_size": 128, "optimizer.lr": 1e-3},
                {"model.name": "mini", "model.hidden_size": 256, "optimizer.lr": 5e-4},
            ],
            ["model.name", "optimizer.lr"],
        ),
        # ... unless one of its values has been changed.
        (
            [
                {"model.name": "tiny", "model.hidden_size": 128},
                {"model.name": "mini", "model.hidden_size": 256},
                {"model.name": "tiny", "model.hidden_size": 192},
            ],
            ["model.name", "model.hidden_size"],
        ),
        # A key that only newer runs have differs only among these.
        ([{"masking.prob": 1}, {"masking.prob": 1, "masking.copies": 1}], []),
        ([{}, {"masking.copies": 1}, {"masking.copies": 4}], ["masking.copies"]),
    ],
)
def test_keys_differ_where_outcomes_may(configs: list[dict[str, Any]], expected: list[str]) -> None:
    assert differing_keys(configs) == expected


def test_the_keys_that_are_ignored_exist() -> None:
    for key in ("hardware.device", "tracker.project", "name", "sweep", "trainer.log_every"):
        assert key in keys()
        assert not changes_outcome(key)
    assert {"evaluation.every", "evaluation.pseudo_perplexity"} <= {*keys()} & {*EVALUATION_ONLY}


def test_keys_that_a_run_does_not_read_are_not_in_its_name(tmp_path: Path) -> None:
    tasks = {"mlm": "elbo", "diffusion": "none", "diffusion-elbo": "elbo"}
    for name, weighting in tasks.items():
        task = {"name": name.partition("-")[0], "objectives": [name.partition("-")[0]]}
        own = {"task": task | {"diffusion": {"weighting": weighting}}, "seed": 0}
        (tmp_path / name / ".hydra").mkdir(parents=True)
        OmegaConf.save(OmegaConf.create(own), tmp_path / name / ".hydra" / "config.yaml")
    runs = [read_run(tmp_path / name) for name in tasks]
    assert not any("weighting" in label for label in labels([runs[0], runs[2]]))
    first, *others = labels(runs)
    assert "weighting" not in first
    assert ["weighting=none" in label for label in others] == [True, False]


def test_shares_are_one_value_written_as_on_the_command_line(tmp_path: Path) -> None:
    folder = tmp_path / "run" / ".hydra"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        "seed: 0\ntask: {name: nsp, negatives: {other_document: 0.5, swap: 0.5}}\n"
    )
    config = read_run(tmp_path / "run").config
    assert value_text(config["task.negatives"]) == "{other_document:0.5,swap:0.5}"
    assert not any(key.startswith("task.negatives.") for key in config)


def test_by_pools_the_rest_and_pairs_within_it(make_run: MakeRun) -> None:
    runs = [
        make_run(seed=seed, masking__prob=prob, masking__strategy=strategy)
        for prob in (0.15, 0.4)
        for strategy in ("token", "span")
        for seed in (0, 1)
    ]
    _, others, placed = group(runs, ["masking.prob"])
    assert others == ("seed", "masking.strategy")
    assert {run.drawn_with for run in placed} == {"0", "1"}
    assert {run.setting for run in placed} == {"masking.prob=0.15", "masking.prob=0.4"}
    assert len({run.pair for run in placed}) == 4


GRID = {
    f"prob={p}, strategy={s}": {"masking.prob": p, "masking.strategy": s}
    for p, s in ((0.4, "token"), (0.4, "span"), (0.15, "token"))
}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("masking.prob=0.40,masking.strategy=span", "prob=0.4, strategy=span"),
        ("prob=0.4, strategy=token", "prob=0.4, strategy=token"),
        ("masking.prob=0.15", "prob=0.15, strategy=token"),
        ("masking.rates=[0.1,0.2],prob=0.15", "the settings differ in masking.prob, masking.str"),
        ("masking.prob=0.4", "fits 2 settings; there are: "),
        ("masking.prob=7", "fits no settings; there are: "),
        ("masking.prop=1", "Did you mean 'masking.prob'?"),
    ],
)
def test_a_baseline_names_no_more_than_tells_it_apart(wanted: str, found: str) -> None:
    if found in GRID:
        assert find_setting(wanted, GRID) == found
    else:
        with pytest.raises(UserError) as caught:
            find_setting(wanted, GRID)
        assert found in str(caught.value)


def test_keys_that_a_setting_does_not_read_are_as_shipped() -> None:
    weighting = "task.diffusion.weighting"
    masked, diffusion = {"task.name": "mlm"}, {"task.name": "diffusion", weighting: "elbo"}
    both = {"second": diffusion, "first": masked | {weighting: None}}
    assert nearest_to_defaults(both) == "first"


def test_the_default_baseline_has_the_shipped_values() -> None:
    rates = {f"p={prob}": {"masking.prob": prob} for prob in (0.1, 0.15, 0.4)}
    assert nearest_to_defaults(rates) == "p=0.15"
    assert nearest_to_defaults(GRID) == "prob=0.15, strategy=token"


def test_numbers_are_in_order_of_size_and_before_texts() -> None:
    values = [{"x": v} for v in ("b", 10, 0.5, None, 9)]
    assert [found["x"] for found in sorted(values, key=in_order)] == [0.5, 9, 10, "b", None]


def test_labels_leave_out_what_keys_have_in_common(make_run: MakeRun) -> None:
    runs = [make_run(masking__prob=p, masking__strategy=s) for p in (0.15, 0.4) for s in "ab"]
    assert labels(runs) == [f"prob={p}, strategy={s}" for p in (0.15, 0.4) for s in "ab"]
    alike = [make_run(optimizer__name=o, model__name=m) for o in "ab" for m in "cd"]
    assert labels(alike)[0] == "optimizer=a, model=c"
    assert labels(runs, ["masking.prob"])[0] == "masking.prob=0.15"
    families = [make_run(family__name=f, masking__prob=p) for f in "ab" for p in (0.15, 0.4)]
    assert labels(families)[0] == "family=a, prob=0.15"
    assert labels(families[::2]) == ["family=a", "family=b"]


def test_a_setting_is_called_by_its_name_where_no_other_has_it(make_run: MakeRun) -> None:
    def called(*names: str | None) -> list[str]:
        runs = [
            make_run(name=name, seed=seed, masking__prob=p)
            for p, name in zip((0.1, 0.2, 0.3), names, strict=True)
            for seed in (0, 1)
        ]
        return list(dict.fromkeys(labels(runs)))

    assert called("few", "some", "many") == ["few", "some", "many"]
    plain = [f"masking.prob={p}" for p in (0.1, 0.2, 0.3)]
    assert called("few", None, "few") == plain
    assert called("few", None, "masking.prob=0.2")[1:] == plain[1:]
    each_seed = [make_run(name=f"s{s}", seed=s, masking__prob=p) for p in (1, 2) for s in (0, 1)]
    assert labels(each_seed)[0] == "masking.prob=1"
    assert find_setting("big", {"big": {"x": 1}, "x=2": {"x": 2}}) == "big"
