"""A run's identity: telling, stable, and what W&B accepts."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from bertexp.tracking.config import TrackerConfig
from bertexp.tracking.identity import RunIdentity, identify

CONFIG = TrackerConfig(
    name="wandb", mode="auto", project="bertexp", entity=None, group=None, tags=["mine", "mlm"]
)
MLM = {"task": "mlm", "model": "tiny", "masking_prob": 0.4, "masking_strategy": "token", "seed": 1}


def make(config: TrackerConfig = CONFIG, **changes: object) -> RunIdentity:
    return identify(config, **{**MLM, "folder": Path("outputs/a"), "sweep": None, **changes})


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({}, "mlm-p0.40-s1"),
        ({"masking_prob": 0.125}, "mlm-p0.125-s1"),
        ({"masking_strategy": "whole_word"}, "mlm-whole_word-p0.40-s1"),
        ({"task": "nsp", "masking_prob": None, "masking_strategy": None}, "nsp-s1"),
        ({"task": "a:b;c,d#e?f/g'h"}, "a-b-c-d-e-f-g-h-p0.40-s1"),
    ],
)
def test_the_id_says_what_the_run_does(changes: dict, label: str) -> None:
    identity = make(**changes)
    assert re.fullmatch(re.escape(label) + r"-[0-9a-f]{8}", identity.id)


def test_the_same_folder_has_the_same_id_and_another_one_another() -> None:
    assert make() == make(folder=Path.cwd() / "outputs" / "a")
    assert make().id != make(folder=Path("outputs/b")).id


def test_a_long_id_keeps_its_hash() -> None:
    identity = make(task="x" * 200)
    assert len(identity.id) == 128
    assert identity.id[-8:] == make().id[-8:]


def test_tags_are_unique_and_short() -> None:
    assert make(model="m" * 99).tags == ("mlm", "m" * 64, "token", "mine")
    assert make(task="nsp", masking_strategy=None).tags == ("nsp", "tiny", "mine", "mlm")


def test_group_and_name_are_the_users_first() -> None:
    assert make(sweep="ratios").group == "ratios"
    assert make(dataclasses.replace(CONFIG, group="g"), sweep="ratios").group == "g"
    assert make().name == "mlm-p0.40-s1"
    assert make(name="baseline").name == "baseline"
