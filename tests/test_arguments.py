"""Command lines as people write them: understood where there is no doubt, else one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from bertexp.arguments import checked_arguments, is_path
from bertexp.config import conf_dir, parse
from bertexp.validation import UserError

HOME = str(Path.home())

READ = {
    "name=李明": ("name", "李明"),
    "name=it's": ("name", "it's"),
    "name=a=b": ("name", "a=b"),
    "name=run(2)": ("name", "run(2)"),
    "name=#1 again": ("name", "#1 again"),
    "name='a,b'": ("name", "a,b"),
    "dataset.files=x.txt": ("dataset.files", ["x.txt"]),
    "dataset.files=[李明.txt, b c.txt]": ("dataset.files", ["李明.txt", "b c.txt"]),
    "dataset.files=~/x.txt": ("dataset.files", [f"{HOME}/x.txt"]),
    "tokenizer.path=~/vocab.txt": ("tokenizer.path", f"{HOME}/vocab.txt"),
    "tracker.tags=mine": ("tracker.tags", ["mine"]),
    "evaluation.mask_probs=0.3": ("evaluation.mask_probs", [0.3]),
    "trainer.max_steps=1e2": ("trainer.max_steps", 100),
    "trainer.max_steps=1_000": ("trainer.max_steps", 1000),
    "trainer.save_every=10.0": ("trainer.save_every", 10),
    "seed=2e0": ("seed", 2),
}


@pytest.mark.parametrize("argument", READ)
def test_what_can_only_mean_one_thing_is_taken_so(argument: str) -> None:
    key, value = READ[argument]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config: Any = parse(compose("config", overrides=checked_arguments([argument])))
    for part in key.split("."):
        config = getattr(config, part)
    assert (config, type(config)) == (value, type(value))


def test_a_path_may_have_commas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = Path("prob=0.15,seed=0/model")
    job.mkdir(parents=True)
    given = [f"model.pretrained={job}", "trainer.max_steps=1,2", f"plugins=[{'long,' * 200}x]"]
    assert checked_arguments(given) == [f"model.pretrained='{job}'", *given[1:]]


def test_a_list_in_a_file_may_be_one_value_too() -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose("config")
    OmegaConf.update(composed, "dataset.files", "x.txt", merge=False)
    assert parse(composed).dataset.files == ["x.txt"]


REFUSED = {
    ("masking.prob 0.4",): "'masking.prob 0.4': sets nothing; a setting is key=value; see --help.",
    ("masking.prob", "0.4"): "'masking.prob': sets nothing; a setting is key=value; see --help.",
    ("seed=1", "--masking.prob=0.4"): "--masking.prob=0.4: no such option; a setting is key=value, "
    "without dashes; see --help.",
    ("masking.prob==0.4",): "'masking.prob==0.4': cannot be read; a setting is key=value, with one "
    "'=' and no space beside it.",
    ("trainer.epochs=[1",): "trainer.epochs=[1: its brackets or quotes do not match; quote text "
    "that has such signs in it for the shell and for bertexp: \"trainer.epochs='...'\".",
    ("name='a",): "name='a: its brackets or quotes do not match; quote text that has such signs "
    "in it for the shell and for bertexp: \"name='...'\".",
    ("a b=c",): "'a b=c': cannot be read; a setting is key=value, with one '=' and no "
    "space beside it.",
    ("a = c",): "'a = c': cannot be read; a setting is key=value, with one '=' and no "
    "space beside it.",
    ("=3",): "'=3': names no key; a setting is key=value.",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_what_cannot_be_read_is_an_error_with_what_to_write(arguments: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        checked_arguments([*arguments])
    assert str(caught.value) == REFUSED[arguments]


def test_options_may_stand_anywhere_and_paths_begin_at_home() -> None:
    given = ["task=nsp", "--config-dir=~/conf", "hydra.run.dir=~/x y", "-m", "seed=0,1"]
    assert checked_arguments(given) == [
        *(f"--config-dir={HOME}/conf", "-m", "task=nsp"),
        *(f"hydra.run.dir='{HOME}/x y'", "seed=0,1"),
    ]


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("outputs/sweeps/s/masking.prob=0.15,seed=1", True),
        ("../run", True),
        ("masking.prob=0.4", False),
        ("dataset.files=[a/b.txt]", False),
        ("+experiment=mask_rate", False),
        ("hydra/launcher=joblib", False),
        ("-m", False),
    ],
)
def test_a_path_is_told_from_an_override(argument: str, expected: bool) -> None:
    assert is_path(argument) is expected
