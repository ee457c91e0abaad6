"""A run's identity: telling, stable, and what W&B accepts."""

from __future__ import annotations

import dataclasses
import re

import pytest

from bertexp.masking.config import MaskingConfig, ReplaceConfig, ScheduleConfig
from bertexp.tracking.config import TrackerConfig
from bertexp.tracking.identity import NameParts, RunIdentity, identify, new_id

CONFIG = TrackerConfig(
    name="wandb", mode="auto", project="bertexp", entity=None, group=None, tags=["mine", "mlm"]
)
BERT = ReplaceConfig(mask=0.8, random=0.1, keep=0.1)
ONLY_MASK = ReplaceConfig(mask=1.0, random=0.0, keep=0.0)


def masking(prob: float = 0.4, **changes: object) -> MaskingConfig:
    return MaskingConfig(**{"prob": prob, "strategy": "token", "replace": BERT, **changes})


def make(config: TrackerConfig = CONFIG, **changes: object) -> RunIdentity:
    values = {"task": "mlm", "model": "tiny", "masking": masking(), "seed": 1, "sweep": None}
    values |= changes
    names = [field.name for field in dataclasses.fields(NameParts) if field.name in values]
    parts = NameParts(**{name: values.pop(name) for name in names})
    return identify(config, parts, **values)


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({}, "mlm-p0.40-s1"),
        ({"masking": masking(0.125)}, "mlm-p0.125-s1"),
        ({"masking": masking(strategy="whole_word")}, "mlm-whole_word-p0.40-s1"),
        ({"masking": masking(replace=ONLY_MASK)}, "mlm-p0.40-100-0-0-s1"),
        ({"masking": masking(corrupt_prob=0.2)}, "mlm-p0.40-c0.20-s1"),
        (
            {"masking": masking(0.3, schedule=ScheduleConfig(name="linear", end=0.15))},
            "mlm-p0.30-linear0.15-s1",
        ),
        (
            {
                "masking": masking(
                    0.15,
                    schedule=ScheduleConfig(
                        name="step",
                        rates=[[0.3, 0.4], [0.7, 0.2]],
                        strategies=[[0.5, "span"]],
                        replacements=[[0.9, {"mask": 1, "random": 0, "keep": 0}]],
                    ),
                )
            },
            "mlm-token-span-p0.15-step0.40-0.20-80-10-10-then-100-0-0-s1",
        ),
        ({"masking": masking(dynamic=False)}, "mlm-p0.40-static-s1"),
        ({"task": "nsp", "masking": None}, "nsp-s1"),
        ({"parts": ("bert", "wordpiece")}, "mlm-p0.40-s1"),
        ({"parts": ("roberta", "bpe")}, "mlm-roberta-bpe-p0.40-s1"),
        # In a sweep of it, each job has it, and once.
        (
            {"parts": ("roberta", "bpe"), "swept": ["tokenizer=bpe", "optimizer.lr=0.1"]},
            "mlm-roberta-bpe-lr0.1-p0.40-s1",
        ),
        ({"parts": ("bert", "bpe"), "swept": ["family=bert"]}, "mlm-bpe-bert-p0.40-s1"),
        ({"task": "a:b;c,d#e?f/g'h"}, "a-b-c-d-e-f-g-h-p0.40-s1"),
    ],
)
def test_the_id_says_what_the_run_does(changes: dict, label: str) -> None:
    assert re.fullmatch(re.escape(label) + r"-[0-9a-f]{8}", make(**changes).id)


def test_runs_that_do_the_same_have_ids_of_their_own_and_one_that_goes_on_keeps_its_id() -> None:
    first = make()
    assert make().id != first.id
    assert make(known_id=first.id) == first


def test_a_long_id_is_what_wandb_accepts() -> None:
    assert re.fullmatch(r"x{119}-[0-9a-f]{8}", new_id("x" * 200))


def test_tags_are_unique_and_short() -> None:
    assert make(model="m" * 99).tags == ("mlm", "m" * 64, "token", "mine")
    assert make(task="nsp", masking=None).tags == ("nsp", "tiny", "mine", "mlm")


def test_group_and_name_are_the_users_first() -> None:
    assert make(sweep="ratios").group == "ratios"
    assert make(dataclasses.replace(CONFIG, group="g"), sweep="ratios").group == "g"
    assert make().name == "mlm-p0.40-s1"
    assert make(name="baseline").name == "baseline"


def test_under_wandbs_agent_its_id_and_sweep_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "k2v9x1")
    assert make().id == "k2v9x1"
    assert make(known_id="mlm-old").id == "mlm-old", "a run that goes on is the run it was"
    monkeypatch.setenv("WANDB_SWEEP_ID", "q7w3")
    found = make(known_id="mlm-old")
    assert (found.id, found.name, found.group) == ("k2v9x1", "mlm-p0.40-s1", "q7w3")


def test_wandbs_variables_fill_in_what_the_configuration_leaves_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = {"NAME": "run7", "TAGS": "a,b", "RUN_GROUP": "g", "JOB_TYPE": "j"}
    for name, value in given.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    bare = dataclasses.replace(CONFIG, tags=[])
    found = make(bare, sweep="ratios")
    assert (found.name, found.group, found.job_type) == ("run7-mlm-p0.40-s1", "g", "j")
    assert found.tags == ("mlm", "tiny", "token", "a", "b")
    assert make(bare).name == "run7"
    ours = make(dataclasses.replace(CONFIG, group="mine"), name="first", sweep="ratios")
    assert (ours.name, ours.group, ours.tags[-1]) == ("first", "mine", "mine")
    other = make(dataclasses.replace(bare, name="trackio"), sweep="ratios")
    assert (other.name, other.group, other.job_type) == ("mlm-p0.40-s1", "ratios", "pretrain")


def test_ids_of_a_sweep_say_what_it_varies_in_their_first_characters() -> None:
    def label(*swept: str) -> str:
        return make(swept=swept).id[:-9]

    assert label("optimizer.lr=0.003", "seed=1") == "mlm-lr0.003-p0.40-s1"
    assert label("+model=mini", "masking.prob=0.4") == "mlm-mini-p0.40-s1"
    assert make(task="nsp", masking=None, swept=["task.negatives=swap"]).id[:11] == "nsp-swap-s1"
    assert label("default") == "mlm-p0.40-s1"
