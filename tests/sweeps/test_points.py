"""The points of a sweep: all combinations, lists side by side, and what a search may draw."""

from __future__ import annotations

import itertools

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from bertexp.sweeps.points import Varied, grid, suggested
from bertexp.validation import UserError


def varied(*overrides: str) -> Varied:
    parsed = OverridesParser.create().parse_overrides([*overrides])
    return {each.get_key_element(): each for each in parsed}


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_a_grid_has_every_combination_and_lists_side_by_side_once(
    counts: list[int], data: st.DataObject
) -> None:
    keys = [f"k{number}" for number in range(len(counts))]
    together = data.draw(st.sets(st.sampled_from(keys)))
    lists = {
        key: range(counts[0] if key in together else count)
        for key, count in zip(keys, counts, strict=True)
    }
    found = grid(
        varied(*(f"{key}=choice({','.join(map(str, each))})" for key, each in lists.items())),
        together,
    )
    expected = {
        tuple(f"{key}={value}" for key, value in zip(keys, point, strict=True))
        for point in itertools.product(*lists.values())
        if len({point[keys.index(key)] for key in together}) <= 1
    }
    assert len(found) == len(expected)
    assert {tuple(sorted(point)) for point in found} == expected


def test_an_interval_has_no_grid() -> None:
    with pytest.raises(UserError, match=r"masking\.prob=interval.*hydra/sweeper=optuna"):
        grid(varied("masking.prob=interval(0.1,0.5)"), [])


def test_a_search_draws_what_the_overrides_allow() -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    overrides = varied(
        *("a=int(interval(1,3))", "b=tag(log,interval(0.01,1))", "c=range(1,6,step=2)", "d=x,null"),
        *("e=[0.15]", "f=range(0.1,0.3,step=0.1)", "g='p,q'"),
    )
    drawn = [suggested(study.ask(), overrides) for _ in range(60)]
    for *points, e, g in drawn:
        assert (e, g) == ("e=[0.15]", "g='p,q'"), "what has one value comes last"
        b = float(points[1].removeprefix("b="))
        assert 0.01 <= b <= 1
    columns = [{*column} for column in zip(*drawn, strict=True)]
    assert columns[0] == {"a=1", "a=2", "a=3"}
    assert columns[2] == {"c=1", "c=3", "c=5"}
    assert columns[3] == {"d=x", "d=null"}
    assert columns[4] == {"f=0.1", "f=0.2"}, "a range ends before its end, as in a grid"
