"""Which runs are taken for repetitions of each other, and which for settings to compare."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertexp.compare.runs import Run, read_run
from bertexp.compare.settings import (
    ONLY_LOOKS,
    differing_keys,
    find_setting,
    group,
    in_order,
    nearest_to_defaults,
)
from bertexp.config import changes_outcome, keys
from bertexp.console import value_text
from bertexp.validation import UserError

VALUES = st.sampled_from([None, True, 0.15, 0.4, 1, 1.0, "span", [0.1, 0.2]])
CONFIGS = st.lists(
    st.fixed_dictionaries({"seed": st.integers(0, 2), "masking.prob": VALUES, "task.x": VALUES}),
    min_size=1,
    max_size=6,
)


def labels(runs: list[Run], by: Sequence[str] = ()) -> list[str]:
    return [run.setting for run in group(runs, by)[2]]


@settings(deadline=None)
@given(CONFIGS)
def test_settings_part_runs_exactly_by_what_differs_besides_the_seed(
    configs: list[dict[str, Any]],
) -> None:
    runs = [Run(None, config, {}, [], "finished", None, 0.0) for config in configs]  # type: ignore[arg-type]
    keys, _, runs = group(runs)
    for first, second in itertools.product(runs, runs):
        alike = all(value_text(first.config[k]) == value_text(second.config[k]) for k in keys)
        others = {k: value_text(v) for k, v in first.config.items() if k != "seed"}
        assert alike == all(value_text(second.config[k]) == v for k, v in others.items())
        assert alike == (first.setting == second.setting)
        assert (first.pair == second.pair) == (first.seed == second.seed)


def test_what_does_not_change_the_outcome_parts_nothing() -> None:
    one = {"hardware.device": "cpu", "tracker.mode": "auto", "name": "a", "evaluation.every": 5}
    other = {"hardware.device": "gpu", "tracker.mode": "off", "name": "b", "evaluation.every": 9}
    assert differing_keys([one, other]) == []
    precise = [{"hardware.precision": "bf16"}, {"hardware.precision": "fp32"}]
    assert differing_keys(precise) == ["hardware.precision"]


def test_the_groups_that_are_ignored_exist() -> None:
    for key in ("hardware.device", "tracker.project", "name", "sweep", "trainer.log_every"):
        assert key in keys()
        assert not changes_outcome(key)
    assert changes_outcome("hardware.precision")
    assert {"evaluation.every", "evaluation.pseudo_perplexity"} <= {*keys()} & {*ONLY_LOOKS}


def test_shares_are_one_value_written_as_on_the_command_line(tmp_path: Path) -> None:
    folder = tmp_path / "run" / ".hydra"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        "seed: 0\ntask: {name: nsp, negatives: {other_document: 0.5, swap: 0.5}}\n"
    )
    config = read_run(tmp_path / "run").config
    assert value_text(config["task.negatives"]) == "{other_document:0.5,swap:0.5}"
    assert not any(key.startswith("task.negatives.") for key in config)


def test_a_groups_name_stands_for_what_it_sets() -> None:
    tiny = {"model.name": "tiny", "model.hidden_size": 128, "optimizer.lr": 1e-3}
    mini = {"model.name": "mini", "model.hidden_size": 256, "optimizer.lr": 5e-4}
    assert differing_keys([tiny, mini]) == ["model.name", "optimizer.lr"]
    wide = tiny | {"model.hidden_size": 192}
    assert differing_keys([tiny, mini, wide]) == [
        *("model.name", "model.hidden_size", "optimizer.lr"),
    ]


def test_a_key_that_only_newer_runs_have_differs_only_among_these() -> None:
    older = {"masking.prob": 0.15}
    newer = [{"masking.prob": 0.15, "masking.copies": copies} for copies in (1, 4)]
    assert differing_keys([older, newer[0]]) == []
    assert differing_keys([older, *newer]) == ["masking.copies"]


def test_by_pools_the_rest_and_pairs_within_it(make_run: Callable[..., Any]) -> None:
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
    with pytest.raises(UserError, match=r"--by masking\.pro: no such key\. Did you mean 'mask"):
        group(runs, ["masking.pro"])


@pytest.mark.parametrize(
    ("wanted", "label"),
    [
        ("masking.prob=0.40,masking.strategy=span", "masking.prob=0.4, masking.strategy=span"),
        ("masking.prob=0.4, masking.strategy=token", "masking.prob=0.4, masking.strategy=token"),
        ("masking.prob=0.15", "masking.prob=0.15, masking.strategy=token"),
        ("masking.rates=[0.1,0.2],masking.prob=0.15", None),
    ],
)
def test_a_baseline_need_say_no_more_than_tells_it_apart(wanted: str, label: str | None) -> None:
    settings = {
        f"masking.prob={prob}, masking.strategy={strategy}": {
            "masking.prob": prob,
            "masking.strategy": strategy,
        }
        for prob, strategy in ((0.4, "token"), (0.4, "span"), (0.15, "token"))
    }
    if label:
        assert find_setting(wanted, settings) == label
    else:
        with pytest.raises(UserError, match=r"the settings differ in masking\.prob, masking\.str"):
            find_setting(wanted, settings)


def test_a_baseline_that_fits_none_or_several_is_refused() -> None:
    settings = {
        f"masking.prob={p}, x={x}": {"masking.prob": p, "x": x} for p in (1, 2) for x in "ab"
    }
    with pytest.raises(UserError, match="fits 2 settings; there are: "):
        find_setting("masking.prob=1", settings)
    with pytest.raises(UserError, match="fits no settings; there are: "):
        find_setting("masking.prob=7", settings)
    with pytest.raises(UserError, match=r"Did you mean 'masking\.prob'\?"):
        find_setting("masking.prop=1", settings)


def test_the_default_baseline_has_the_shipped_values() -> None:
    rates = {f"p={prob}": {"masking.prob": prob} for prob in (0.1, 0.15, 0.4)}
    assert nearest_to_defaults(rates) == "p=0.15"
    both = {
        f"{prob}{strategy}": {"masking.prob": prob, "masking.strategy": strategy}
        for prob in (0.3, 0.4)
        for strategy in ("span", "token")
    }
    assert nearest_to_defaults(both) == "0.3token"


def test_numbers_are_in_order_of_size_and_before_texts() -> None:
    values = [{"x": v} for v in ("b", 10, 0.5, None, 9)]
    assert [found["x"] for found in sorted(values, key=in_order)] == [0.5, 9, 10, "b", None]


def test_equal_values_are_written_alike() -> None:
    written = [value_text(v) for v in (None, True, 0.4, 1, 1.0, 1e-5, [0.15, 2.0], "span")]
    assert written == ["null", "true", "0.4", "1", "1", "1e-05", "[0.15,2]", "span"]


def test_labels_leave_out_what_keys_have_in_common(make_run: Callable[..., Any]) -> None:
    runs = [make_run(masking__prob=p, masking__strategy=s) for p in (0.15, 0.4) for s in "ab"]
    assert labels(runs) == [f"prob={p}, strategy={s}" for p in (0.15, 0.4) for s in "ab"]
    alike = [make_run(optimizer__name=o, model__name=m) for o in "ab" for m in "cd"]
    assert labels(alike)[0] == "optimizer.name=a, model.name=c"
    assert labels(runs, ["masking.prob"])[0] == "masking.prob=0.15"


def test_a_setting_is_called_by_its_name_where_no_other_has_it(
    make_run: Callable[..., Any],
) -> None:
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


def test_a_baseline_is_found_by_its_label(make_run: Callable[..., Any]) -> None:
    runs = [make_run(masking__prob=p, masking__strategy=s) for p in (0.15, 0.4) for s in "ab"]
    keys, _, placed = group(runs)
    settings = {run.setting: {key: run.config[key] for key in keys} for run in placed}
    for wanted in ("prob=0.4, strategy=b", "masking.prob=0.4,strategy=b"):
        assert find_setting(wanted, settings) == "prob=0.4, strategy=b"
    assert find_setting("big", {"big": {"x": 1}, "x=2": {"x": 2}}) == "big"
