"""Studies: each composes, is as small as +size=smoke sets, and runs."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from folders import summary
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from bertexp.config import Config, conf_dir, keys, parse
from bertexp.families.build import check_model
from bertexp.finetune.config import FinetuneConfig
from bertexp.objectives import OBJECTIVES
from bertexp.sweeps.checks import refuse_mistakes

STUDIES = sorted(
    path.stem
    for path in (conf_dir() / "experiment").glob("*.yaml")
    if "MULTIRUN" in path.read_text()
)
SCHEMAS = (Config, FinetuneConfig)
KEYS = [*dict.fromkeys(key for schema in SCHEMAS for key in keys(schema))]
SIZES = sorted(path.stem for path in (conf_dir() / "size").glob("*.yaml"))


@functools.cache
def composed(*overrides: str, with_hydra: bool = False) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", overrides=list(overrides), return_hydra_config=with_hydra)


@functools.cache
def points(study: str) -> tuple[list[tuple[str, ...]], int]:
    """Return the settings that a study compares, each as overrides, and the number of seeds."""
    sweeper = composed(f"+experiment={study}", with_hydra=True).hydra.sweeper
    parsed = OverridesParser.create().parse_overrides(
        [f"{k}={v}" for k, v in sweeper.params.items()]
    )
    swept = {
        override.key_or_group: [
            f"{override.key_or_group}={value}" for value in override.sweep_string_iterator()
        ]
        for override in parsed
    }
    seeds = len(swept.pop("seed"))
    together = [swept.pop(key) for key in sweeper.get("together") or []]
    rows = [*zip(*together, strict=True)] or [()]
    return [(*row, *rest) for row in rows for rest in itertools.product(*swept.values())], seeds


def values(config: DictConfig) -> dict[str, Any]:
    return {key: OmegaConf.select(config, key) for key in keys() if key != "sweep"}


def test_the_studies_promised_are_there() -> None:
    promised = {
        "mask_rate",
        "mask_replacement",
        "mask_strategy",
        "mask_schedule",
        "nsp_or_not",
        "nsp_negatives",
    }
    assert promised <= set(STUDIES)
    assert "smoke" in SIZES


@pytest.mark.parametrize("study", STUDIES)
def test_every_point_of_a_study_is_a_run_of_its_own(study: str) -> None:
    config = composed(f"+experiment={study}", with_hydra=True)
    assert config.hydra.mode.name == "MULTIRUN"
    assert config.sweep.startswith(f"{study}_")
    settings, seeds = points(study)
    assert seeds >= 3, "one seed proves nothing"
    jobs = [
        composed(f"+experiment={study}", *each, "sweep=s", with_hydra=True) for each in settings
    ]
    refuse_mistakes(jobs, KEYS, SCHEMAS, None)
    found = [parse(OmegaConf.masked_copy(job, [*job.keys() - {"hydra"}])) for job in jobs]
    assert all(found.count(config) == 1 for config in found)
    # What is not under test is the same for all, the budget above all.
    assert all(config.trainer == found[0].trainer for config in found)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("study", STUDIES)
def test_a_size_wins_over_a_study_in_any_order(study: str, size: str) -> None:
    sized = OmegaConf.load(conf_dir() / "size" / f"{size}.yaml")
    wanted = [key for key in keys() if OmegaConf.select(sized, key) is not None]
    last = points(study)[0][-1]
    orders = (f"+experiment={study}", f"+size={size}"), (f"+size={size}", f"+experiment={study}")
    first, second = (values(composed(*order, *last)) for order in orders)
    assert first == second
    assert wanted
    for key in wanted:
        assert first[key] == OmegaConf.select(sized, key), key


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("study", STUDIES)
def test_a_study_has_a_model_of_a_size_that_its_task_can_train(study: str, size: str) -> None:
    last = points(study)[0][-1]
    config = parse(composed(f"+experiment={study}", f"+size={size}", *last))
    task, cpu = config.task, torch.device("cpu")
    given = (config.family, config.model, task.heads, task.max_length, cpu)
    found = check_model(*given, reads_pairs=task.reads_pairs, is_compiled=False, task="task")
    for name in task.objectives:
        OBJECTIVES[name].check(found, "task", False)


def test_a_study_runs_small(command: Callable[..., Any]) -> None:
    done = command(
        *("+size=smoke", "+experiment=mask_schedule", "seed=0", "sweep=small"),
        *("dataset=synthetic", "tracker=none", "hardware.threads=1", "tokenizer.vocab_size=256"),
    )
    assert done.code == 0, done.output + done.errors
    sweep = done.folder / "outputs" / "sweeps" / "small"
    summaries = [summary(path.parent) for path in sweep.glob("*/summary.json")]
    assert len(summaries) == 5
    assert {found["status"] for found in summaries} == {"finished"}
    assert {found["budget"]["step"] for found in summaries} == {10}
    realised = sorted(round(found["masking"]["requested"], 3) for found in summaries)
    assert realised == [0.15, 0.15, 0.225, 0.3, 0.3]
