"""The run's own record, TensorBoard, packages that are missing, and the keys of ``tracker``."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bertexp.config import conf_dir
from bertexp.keys import check_parts, check_values
from bertexp.tracking.config import TRACKERS, TrackerConfig
from bertexp.tracking.identity import RunIdentity
from bertexp.tracking.trackers import JsonLinesTracker, SafeTracker, open_tracker
from bertexp.validation import UserError

IDENTITY = RunIdentity(id="mlm-1", name="mlm", group="g", tags=("mlm",), job_type="pretrain")
RESOLVED = {"seed": 1, "task": {"name": "mlm", "sizes": [1, 2], "none": None}}


GOOD = TrackerConfig(name="wandb", mode="auto", project="bertexp", entity=None, group=None, tags=[])


def opened(name: str, folder: Path, mode: str = "auto") -> SafeTracker | None:
    config = dataclasses.replace(GOOD, name=name, mode=mode)
    return open_tracker(config, IDENTITY, folder, folder / "outputs", RESOLVED)


def records(folder: Path) -> list[dict]:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def test_metrics_come_through_accelerate_as_lines_of_json(tmp_path: Path) -> None:
    accelerator = Accelerator(cpu=True, log_with=[JsonLinesTracker(tmp_path)])
    accelerator.init_trackers("bertexp")
    accelerator.log({"train/loss": 2.5, "train/tokens_per_second": 800}, step=10)
    assert records(tmp_path) == [{"step": 10, "train/loss": 2.5, "train/tokens_per_second": 800}]
    accelerator.log({"eval/loss@0.15": float("nan"), "eval/perplexity": float("inf")}, step=10)
    assert records(tmp_path)[1] == {"step": 10, "eval/loss@0.15": None, "eval/perplexity": None}


def test_rewinding_drops_what_comes_after_and_a_torn_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = JsonLinesTracker(tmp_path)
    assert tracker.position() == 0
    tracker.rewind(0)
    for step in (10, 20):
        tracker.log({"train/loss": 1.0}, step=step)
    position = tracker.position()
    tracker.log({"eval/loss": 1.0}, step=20)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "tr')
    tracker.rewind(position)
    tracker.log({"train/loss": 2.0}, step=30)
    assert [(r["step"], r["train/loss"]) for r in records(tmp_path)] == [(10, 1), (20, 1), (30, 2)]
    tracker.rewind(0)
    assert records(tmp_path) == []
    assert not caplog.messages
    tracker.rewind(position)
    assert "lines are missing" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_record_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"):
        JsonLinesTracker(tmp_path / "gone").log({"train/loss": 1.0}, step=1)


def test_tensorboard_holds_scalars_and_hyperparameters_in_one_run(tmp_path: Path) -> None:
    tracker = opened("tensorboard", tmp_path)
    tracker.start()
    tracker.log({"train/loss": 3.0}, step=10)
    tracker.log({"train/loss": 2.0, "eval/loss@0.15": 2.5}, step=20)
    tracker.close(failed=False)
    assert tracker.location == f"tensorboard --logdir {tmp_path / 'tensorboard'}"
    assert all(path.is_file() for path in (tmp_path / "tensorboard").iterdir())
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(10, 3.0), (20, 2.0)]
    assert [e.step for e in events.Scalars("eval/loss@0.15")] == [20]
    start = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert all(key in start for key in (b"task.name", b"task.sizes", b"[1, 2]", b"task.none"))


def test_a_tracker_that_does_not_start_or_log_warns_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = opened("tensorboard", tmp_path)
    tracker.start()
    for step in (1, 2):
        tracker.log({"train/loss": 3.0}, step=f"step {step}")
    tracker.close(failed=False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "tensorboard").write_text("in the way")
    tracker = opened("tensorboard", tmp_path / "other")
    tracker.start()
    tracker.log({"train/loss": 3.0}, step=10)
    tracker.close(failed=True)
    assert len(caplog.messages) == 2
    assert all("The run continues without it" in message for message in caplog.messages)


@pytest.mark.parametrize(("name", "mode"), [("none", "auto"), ("wandb", "disabled")])
def test_no_tracker_is_none(name: str, mode: str, tmp_path: Path) -> None:
    assert opened(name, tmp_path, mode) is None


@pytest.mark.skipif(importlib.util.find_spec("trackio") is not None, reason="it is installed")
def test_a_missing_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pip install 'bertexp\[trackio\]'"):
        opened("trackio", tmp_path)


def test_trackio_keeps_a_run(script: Callable[..., tuple[str, str]]) -> None:
    pytest.importorskip("trackio")
    output, _ = script(
        """
        from pathlib import Path
        from bertexp.config import conf_dir
        from bertexp.tracking.config import TrackerConfig
        from bertexp.tracking.identity import RunIdentity
        from bertexp.tracking.trackers import open_tracker
        config = TrackerConfig(
            name="trackio", mode="auto", project="p", entity=None, group=None, tags=[]
        )
        who = RunIdentity(id="mlm-1", name="mlm", group="g", tags=(), job_type="pretrain")
        tracker = open_tracker(config, who, Path(), Path(), {"task": {"name": "mlm"}})
        tracker.start()
        tracker.log({"train/loss": 2.5}, step=10)
        tracker.close(failed=False)
        print(tracker.location)
        import trackio
        print(trackio.Api().runs("p")[0].name)
        """,
        TRACKIO_DIR="trackio",
    )
    assert output.splitlines()[:2] == ["trackio show --project p", "mlm-1"]


@pytest.mark.parametrize("name", TRACKERS)
def test_every_option_fits_the_schema(name: str) -> None:
    with initialize_config_dir(str(conf_dir() / "tracker"), version_base="1.3"):
        values = compose(name)
    schema = OmegaConf.structured(TrackerConfig)
    config = OmegaConf.to_object(OmegaConf.merge(schema, values))
    assert config == dataclasses.replace(GOOD, name=name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "wandbb"}, "Did you mean 'wandb'?"),
        ({"mode": "on"}, "mode=on: must be one of auto, online"),
        ({"project": "a/b"}, "tracker.project=a/b"),
        ({"project": ""}, "tracker.project="),
        ({"tags": ["x" * 65]}, "tags of 1 to 64 characters"),
        ({"tags": [""]}, "tags of 1 to 64 characters"),
    ],
)
def test_a_mistake_in_the_configuration_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as raised:
        values = OmegaConf.structured(dataclasses.replace(GOOD, **change))
        check_values(TrackerConfig, values)
        check_parts(TrackerConfig, values)
    assert message in str(raised.value)
