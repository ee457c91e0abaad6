"""The metric of ``hydra/sweeper=resolve``, which is checked before any job runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertexp import metrics
from bertexp.sweeps.checks import require_direction
from bertexp.validation import UserError


@pytest.mark.parametrize(
    "metric",
    [
        *("eval/loss", "eval/loss@0.4", "eval/accuracy", "eval/probe/word", "eval/bits_per_byte"),
        *("eval/nsp_accuracy@swap", "eval/minimal_pairs", "eval/minimal_pairs/order"),
        *("eval/elbo", "eval/rtd_auc", "eval/causal_loss"),
    ],
)
def test_a_metric_with_a_direction_is_allowed(metric: str) -> None:
    require_direction(metric)


@pytest.mark.parametrize(
    ("metric", "hint"),
    [
        ("eval/los", " Did you mean 'eval/loss'?"),
        ("loss", " Did you mean 'eval/loss'?"),
        ("eval/nsp_acuracy", " Did you mean 'eval/nsp_accuracy'?"),
        ("eval/effective_rank", ""),
        ("finetune/cola/matthews", ""),
        ("train/loss", ""),
        ("eval/bits_per_bite", " Did you mean 'eval/bits_per_byte'?"),
    ],
)
def test_another_is_refused_with_the_nearest_name(metric: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        require_direction(metric)
    assert str(caught.value).startswith(f"hydra.sweeper.metric={metric}: must be a metric eval/...")
    assert str(caught.value).endswith(f"bertexp.metrics.register).{hint}")


def test_the_row_of_a_plugin_gives_a_metric_its_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(metrics.METRICS, "eval/quantum", metrics.share())
    require_direction("eval/quantum")


def test_nothing_runs_before_a_mistake_is_found(sweep: Callable[..., Any]) -> None:
    resolve = ("hydra/sweeper=resolve", "masking.prob=0.1,0.2", "sweep=misspelt")
    done = sweep(*resolve, "hydra.sweeper.metric=eval/acuracy")
    assert done.code == 1
    assert done.lines == [
        "error: hydra.sweeper.metric=eval/acuracy: must be a metric eval/... of a run, of which it "
        "is known whether a higher value is better (from a plugin by bertexp.metrics.register). "
        "Did you mean 'eval/accuracy'?"
    ]
    assert not (done.folder / "outputs/sweeps/misspelt").exists()


def test_the_first_round_ends_where_it_would_take_too_long(sweep: Callable[..., Any]) -> None:
    resolve = ("hydra/sweeper=resolve", "masking.prob=0.1,0.2", "sweep=short")
    done = sweep(*resolve, "hydra.sweeper.max_time=0.0001")
    assert done.code == 0, done.errors
    assert "Stopped at hydra.sweeper.max_time=0.0001; not all settings are resolved." in done.lines
    root: Path = done.folder / "outputs/sweeps/short"
    assert [path.parent.name for path in root.glob("*/summary.json")] == ["masking.prob=0.1,seed=0"]
    assert json.loads((root / "compare.json").read_text())["runs"]
    assert re.search(r"^sweep short: 6 jobs$", done.output, re.M)

    again = sweep(*resolve, "hydra.sweeper.max_time=0.0001")
    assert again.code == 0, again.errors
    assert len([*root.glob("*/summary.json")]) == 1

    other = sweep(*resolve, "hydra.sweeper.margin=0.05")
    assert other.code == 1
    assert "hydra.sweeper.margin" in other.errors
