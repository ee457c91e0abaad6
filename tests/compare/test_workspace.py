"""The W&B workspace: what it shows, checked without a server."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("wandb_workspaces")


def test_it_shows_sweeps_as_they_are_compared_here() -> None:
    from bertexp.compare.workspace import build_workspace

    view = json.loads(build_workspace("team", "ratios")._to_model().model_dump_json())
    assert (view["entity"], view["project"]) == ("team", "ratios")
    section = view["spec"]["section"]
    (shown,) = section["run_sets"][0]["filters"]["filters"]
    assert (shown["key"]["name"], shown["value"]) == ("jobType", "pretrain")
    found = section["panel_bank_config"]["sections"]
    panels = {s["name"]: [panel["config"] for panel in s["panels"]] for s in found}
    curves = [panel for panel in panels["Training"] if panel["metrics"] == ["train/loss"]]
    # Means over seeds, on both axes.
    assert {(curve["x_axis"], curve["group_by"]) for curve in curves} == {
        ("trainer/step", "masking.value.prob"),
        ("train/predicted_tokens", "masking.value.prob"),
        ("trainer/step", "group"),
    }
    assert {(c["group_agg"], c["group_area"]) for c in curves} == {("mean", "stddev")}
    scatters = {
        panel["y_axis"]: panel["x_axis"]
        for name in ("Evaluation against masking.prob", "Loss by evaluation rate")
        for panel in panels[name]
        if "y_axis" in panel
    }
    for metric in ("eval/loss", "eval/loss@0.15", "eval/loss@0.4"):
        assert scatters[f"summary:{metric}.last"] == "config:masking.value.prob"
    slices = {name for panel in panels["Slices"] for name in panel["metrics"]}
    assert {"eval/loss@rare", "eval/loss@start", "eval/loss@pieces"} <= slices
    assert panels["Throughput"][0]["metrics"] == ["train/tokens_per_second"]
    columns = [column["accessor"] for column in panels["All settings"][0]["columns"]]
    assert columns[0] == "config:masking.value.prob"
    assert columns[-1] == "summary:eval/loss.last"


def test_without_a_key_the_command_refuses_in_a_line(command: Callable[..., Any]) -> None:
    done = command("--workspace", "--project", "mine", module="bertexp.compare")
    assert (done.code, done.output) == (1, "")
    assert done.errors == (
        "error: --workspace: W&B has no API key. Log in with `wandb login` or WANDB_API_KEY.\n"
    )
