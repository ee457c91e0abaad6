"""The W&B workspace: what it shows, checked without a server."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("wandb_workspaces")


@pytest.fixture(scope="module")
def view() -> dict[str, Any]:
    """What would be sent to W&B."""
    from bertexp.compare.workspace import build_workspace

    return json.loads(build_workspace("team", "ratios")._to_model().model_dump_json())


@pytest.fixture(scope="module")
def sections(view: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The panels' settings, by section."""
    found = view["spec"]["section"]["panel_bank_config"]["sections"]
    return {s["name"]: [panel["config"] for panel in s["panels"]] for s in found}


def test_it_is_the_projects(view: dict[str, Any]) -> None:
    assert (view["entity"], view["project"]) == ("team", "ratios")
    (runs,) = view["spec"]["section"]["run_sets"]
    (shown,) = runs["filters"]["filters"]
    assert (shown["key"]["name"], shown["value"]) == ("jobType", "pretrain")


def test_curves_are_means_over_seeds_on_both_axes(sections: dict[str, Any]) -> None:
    curves = [panel for panel in sections["Training"] if panel["metrics"] == ["train/loss"]]
    drawn = {(curve["x_axis"], curve["group_by"]) for curve in curves}
    assert drawn == {
        ("trainer/step", "masking.value.prob"),
        ("train/predicted_tokens", "masking.value.prob"),
        ("trainer/step", "group"),
    }
    assert {(c["group_agg"], c["group_area"]) for c in curves} == {("mean", "stddev")}


def test_evaluation_is_against_the_rate(sections: dict[str, Any]) -> None:
    panels = sections["Evaluation against masking.prob"]
    scatters = {p["y_axis"]: p["x_axis"] for p in panels if "y_axis" in p}
    assert scatters["summary:eval/loss.last"] == "config:masking.value.prob"


def test_every_evaluation_rate_and_slice_has_its_panel(sections: dict[str, Any]) -> None:
    by_rate = sections["Loss by evaluation rate"]
    assert [p["y_axis"] for p in by_rate if "y_axis" in p] == [
        "summary:eval/loss@0.15.last",
        "summary:eval/loss@0.4.last",
    ]
    slices = {name for panel in sections["Slices"] for name in panel["metrics"]}
    assert {"eval/loss@rare", "eval/loss@start", "eval/loss@pieces"} <= slices
    assert sections["Throughput"][0]["metrics"] == ["train/tokens_per_second"]


def test_parallel_coordinates_go_from_settings_to_the_loss(sections: dict[str, Any]) -> None:
    (plot,) = sections["All settings"]
    columns = [column["accessor"] for column in plot["columns"]]
    assert columns[0] == "config:masking.value.prob"
    assert columns[-1] == "summary:eval/loss.last"


def test_without_a_key_the_command_refuses_in_a_line(command: Callable[..., Any]) -> None:
    done = command("--workspace", "--project", "mine", module="bertexp.compare")
    assert done.code == 1
    assert done.output == ""
    assert done.errors == (
        "error: --workspace: W&B has no API key. Log in with `wandb login` or WANDB_API_KEY.\n"
    )
