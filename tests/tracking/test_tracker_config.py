"""Tracker configurations: what composes, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from bertexp.tracking.config import TRACKERS, TrackerConfig
from bertexp.validation import UserError

CONF = Path(__file__).parents[2] / "conf" / "tracker"
GOOD = TrackerConfig(name="wandb", mode="auto", project="bertexp", entity=None, group=None, tags=[])


@pytest.mark.parametrize("name", TRACKERS)
def test_every_option_fits_the_schema(name: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        values = compose(name)
    schema = OmegaConf.structured(TrackerConfig)
    config = OmegaConf.to_object(OmegaConf.merge(schema, values))
    assert config == dataclasses.replace(GOOD, name=name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "wandbb"}, "Did you mean 'wandb'?"),
        ({"mode": "on"}, "tracker.mode=on: must be one of auto, online"),
        ({"project": "a/b"}, "tracker.project=a/b"),
        ({"project": ""}, "tracker.project="),
        ({"tags": ["x" * 65]}, "tags of 1 to 64 characters"),
        ({"tags": [""]}, "tags of 1 to 64 characters"),
    ],
)
def test_a_mistake_is_named(change: dict, message: str) -> None:
    with pytest.raises(UserError) as raised:
        dataclasses.replace(GOOD, **change)
    assert message in str(raised.value)
