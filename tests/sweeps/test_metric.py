"""The metric of ``hydra/sweeper=resolve``, which is checked before any job runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from bertexp import metrics
from bertexp.config import conf_dir, store_own_keys
from bertexp.sweeps.checks import refuse_unknown_metric
from bertexp.validation import UserError

COMMAND_LINES = {
    "mlm": "",
    "nsp": "task=nsp",
    "both": "task=mlm_nsp evaluation.minimal_pairs=generated",
    "rtd": "task=rtd evaluation.evaluators=elbo evaluation.mask_probs=0.2",
    "mntp": "task=mntp evaluation.evaluators=[probes,effective_rank] evaluation.probes=[word]",
}


def job(name: str) -> DictConfig:
    store_own_keys()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        if name == "sst2":
            return compose("finetune", overrides=["run=somewhere", "finetune=sst2"])
        return compose("config", overrides=COMMAND_LINES[name].split())


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("mlm", "eval/loss eval/loss@0.4 eval/loss@rare eval/accuracy eval/perplexity"),
        ("mlm", "eval/probe/word eval/bits_per_byte eval/word_perplexity eval/pseudo_perplexity"),
        ("nsp", "eval/loss eval/nsp_loss eval/nsp_accuracy@swap eval/nsp_calibration_error"),
        ("both", "eval/loss@0.15 eval/nsp_accuracy eval/minimal_pairs eval/minimal_pairs/order"),
        ("rtd", "eval/elbo eval/rtd_auc eval/rtd_loss@0.2 eval/generator_loss@0.2"),
        ("mntp", "eval/loss eval/causal_loss eval/causal_perplexity eval/probe/word"),
        ("sst2", "eval/loss eval/accuracy eval/accuracy@mismatched"),
    ],
)
def test_what_jobs_measure_is_allowed(name: str, wanted: str) -> None:
    for metric in wanted.split():
        refuse_unknown_metric(metric, [job(name)])


@pytest.mark.parametrize(
    ("name", "metric", "error"),
    [
        ("mlm", "eval/los", "no job measures it. Did you mean 'eval/loss'?"),
        ("mlm", "loss", "no job measures it. Did you mean 'eval/loss'?"),
        ("mlm", "eval/loss@0.41", "no job measures it. Did you mean 'eval/loss@0.4'?"),
        ("mlm", "eval/loss@rear", "no job measures it. Did you mean 'eval/loss@rare'?"),
        ("mlm", "eval/probe/wrod", "no job measures it. Did you mean 'eval/probe/word'?"),
        ("mlm", "eval/nsp_accuracy", "no job measures it. "),
        ("mlm", "eval/generator_loss", "no job measures it. "),
        ("nsp", "eval/causal_loss", "no job measures it. "),
        ("rtd", "eval/causal_perplexity", "no job measures it. "),
        ("mlm", "eval/elbo", "no job measures it. evaluation.evaluators can add it."),
        ("mlm", "eval/minimal_pairs/order", "evaluation.minimal_pairs can add it."),
        ("mlm", "finetune/cola/matthews", "python -m bertexp.finetune measures it, after a run."),
        ("mlm", "eval/quantum", "bertexp.metrics.register('eval/quantum', lower_is_better=...)"),
        ("nsp", "eval/nsp_acuracy", "no job measures it. Did you mean 'eval/nsp_accuracy'?"),
        ("nsp", "eval/rtd_auc", "no job measures it. "),
        ("mntp", "eval/probe/order", "no job measures it. Did you mean 'eval/probe/word'?"),
        ("mntp", "eval/effective_rank", "neither more nor less of it is better"),
        ("sst2", "eval/acuracy", "no job measures it. Did you mean 'eval/accuracy'?"),
        ("sst2", "eval/matthews", "no job measures it."),
    ],
)
def test_another_is_refused_with_a_hint(name: str, metric: str, error: str) -> None:
    with pytest.raises(UserError) as caught:
        refuse_unknown_metric(metric, [job(name)])
    assert str(caught.value).startswith(f"hydra.sweeper.metric={metric}: ")
    assert error in str(caught.value)


def test_one_of_several_jobs_is_enough_and_so_is_the_row_of_a_plugin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse_unknown_metric("eval/nsp_loss", [job("mlm"), job("nsp")])
    monkeypatch.setitem(metrics.METRICS, "eval/quantum", metrics.share())
    refuse_unknown_metric("eval/quantum", [job("mlm")])


def test_nothing_runs_before_a_mistake_is_found(sweep: Callable[..., Any]) -> None:
    resolve = ("hydra/sweeper=resolve", "masking.prob=0.1,0.2", "sweep=misspelt")
    done = sweep(*resolve, "hydra.sweeper.metric=eval/acuracy")
    assert done.code == 1
    assert done.lines == [
        "error: hydra.sweeper.metric=eval/acuracy: no job measures it. Did you mean "
        "'eval/accuracy'?"
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
