"""A sweep tracked by W&B without a network, and W&B's own sweeps, read back by W&B's own reader."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from bertexp.config import conf_dir
from bertexp.experiment.summary import read_summary

FAKE_KEY = "0123456789" * 4
SMALL = (
    *("+size=smoke", "dataset=synthetic", "tokenizer.vocab_size=256", "hardware.threads=1"),
    "dataset.synthetic.documents=60",
)
# A server that is not there.
NOBODY = {"WANDB_API_KEY": FAKE_KEY, "WANDB_BASE_URL": "http://127.0.0.1:9"}
SWEEPS = sorted((conf_dir() / "wandb").glob("*.yaml"))


@dataclass(frozen=True)
class Tracked:
    """What W&B's reader finds in an offline run: its records, and what they come to."""

    records: dict[str, list[dict[str, Any]]]
    totals: dict[str, Any]

    @property
    def run(self) -> dict[str, Any]:
        return self.records["run"][0]


@pytest.fixture(scope="session")
def tracked(leet: Callable[..., str]) -> Callable[[Path], list[Tracked]]:
    """Return a function that reads all offline runs of a folder."""

    def read(file: Path) -> Tracked:
        records: dict[str, list[dict[str, Any]]] = {}
        for line in leet(file).splitlines():
            record = json.loads(line)
            records.setdefault(record["type"], []).append(record[record["type"]])
        return Tracked(records, json.loads(leet(file, "--summary")))

    def read_all(folder: Path) -> list[Tracked]:
        return [
            read(file)
            for file in sorted((folder / "outputs" / "wandb").glob("offline-run-*/*.wandb"))
        ]

    return read_all


@pytest.fixture(scope="module")
def sweep(command: Callable[..., Any]) -> Any:
    """A sweep with a key but no network, of whose four jobs two, in the middle, fail."""
    jobs = ("masking.prob=0.15,0.4", "model.hidden_size=32,1048576")
    return command("-m", *jobs, *SMALL, "sweep=ratios", "seed=3", "tracker.tags=[mine]", **NOBODY)


@pytest.fixture(scope="module")
def runs(sweep: Any, tracked: Callable[[Path], list[Tracked]]) -> list[Tracked]:
    """The sweep as W&B knows it."""
    return tracked(sweep.folder)


@pytest.fixture(scope="module")
def jobs(runs: list[Tracked]) -> list[Tracked]:
    """Its jobs; the comparison that ends it is none of them."""
    return [found for found in runs if found.run["job_type"] == "pretrain"]


def test_every_job_is_a_run_of_its_own_in_the_sweeps_group(sweep: Any, jobs: list[Tracked]) -> None:
    assert sweep.code == 1
    assert {found.run["run_group"] for found in jobs} == {"ratios"}
    assert {found.run["project"] for found in jobs} == {"bertexp"}
    folders = (sweep.folder / "outputs" / "sweeps" / "ratios").glob("*/summary.json")
    known = [read_summary(path.parent)["tracker_id"] for path in folders]
    assert len(set(known)) == 4
    assert {found.totals["run_id"] for found in jobs} == set(known)
    assert all(set(found.totals["tags"]) == {"mlm", "tiny", "token", "mine"} for found in jobs)
    assert {found.totals["name"] for found in jobs} == {
        f"mlm-hidden_size{size}-p{prob}-s3" for size in (32, 2**20) for prob in ("0.15", "0.40")
    }


def test_the_comparison_is_a_run_of_the_same_group_and_one_command_uploads_all(
    sweep: Any, runs: list[Tracked]
) -> None:
    (compared,) = [found for found in runs if found.run["job_type"] == "compare"]
    assert compared.run["run_group"] == "ratios"
    assert compared.totals["state"] == "finished"
    media = [path.name for path in (sweep.folder / "outputs/wandb").rglob("media/**/*.*")]
    assert any("metric" in name or "comparison" in name for name in media), media
    (table,) = (sweep.folder / "outputs/wandb").rglob("media/table/comparison/*.json")
    assert {"label", "mean", "eval/probe/length"} < set(json.loads(table.read_text())["columns"])
    assert "wandb leet outputs/wandb" in sweep.output.splitlines()
    assert "wandb sync outputs/wandb/offline-run-*" in sweep.output.splitlines()


def test_every_job_has_its_configuration_and_where_it_came_from(jobs: list[Tracked]) -> None:
    found = [job.totals["config"] for job in jobs]
    points = sorted((c["masking"]["prob"], c["model"]["hidden_size"] == 32) for c in found)
    assert points == [(0.15, False), (0.15, True), (0.4, False), (0.4, True)]
    for config in found:
        assert config["versions"].keys() >= {"python", "torch", "wandb", "git_commit"}
    trained = [config for config in found if config["model"]["hidden_size"] == 32]
    for config in trained:
        assert config["fingerprints"].keys() >= {"corpus", "tokenizer", "bank"}
    assert trained[0]["fingerprints"] == trained[1]["fingerprints"]


def test_every_job_ends_as_it_did(jobs: list[Tracked]) -> None:
    for job in jobs:
        failed = job.totals["config"]["model"]["hidden_size"] > 32
        assert job.totals["state"] == ("failed" if failed else "finished")
        (end,) = job.records["exit"]
        assert end["exit_code"] == int(failed)


def test_every_job_that_trained_has_its_history_and_its_best_values(jobs: list[Tracked]) -> None:
    trained = [job for job in jobs if job.totals["state"] == "finished"]
    assert len(trained) == 2
    for job in trained:
        rows = [record["item"] for record in job.records["history"]]
        losses = [row["eval/loss"] for row in rows if "eval/loss" in row]
        assert [row["trainer/step"] for row in rows if "eval/loss" in row] == [0, 5, 10]
        assert [row["trainer/step"] for row in rows if "train/loss" in row] == [5, 10]
        assert job.totals["summary"]["eval/loss"] == {"min": min(losses), "last": losses[-1]}
        assert job.totals["summary"]["samples/masked"]["nrows"] > 0


def test_the_answers_are_a_table(sweep: Any, jobs: list[Tracked]) -> None:
    job = next(job for job in jobs if job.totals["state"] == "finished")
    media = (
        Path(job.totals["file"]).parent / "files" / job.totals["summary"]["samples/masked"]["path"]
    )
    table = json.loads(media.read_text())
    assert table["columns"] == ["text", "truth", "prediction", "probability", "right"]
    for text, truth, prediction, probability, right in table["data"]:
        assert "[MASK]" in text
        assert right == (truth == prediction)
        assert 0 < probability < 1


def test_the_network_is_missed_once_and_in_one_line(sweep: Any) -> None:
    (line,) = [line for line in sweep.said if "Tracked offline" in line]
    upload = line.partition("; to upload: ")[2]
    assert upload.startswith("wandb sync outputs/wandb/offline-run-")
    assert (sweep.folder / upload.removeprefix("wandb sync ")).is_dir()


def test_a_key_reaches_no_file_and_no_terminal(sweep: Any) -> None:
    assert FAKE_KEY not in sweep.output + sweep.errors
    files = [path for path in (sweep.folder / "outputs").rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    assert not [path for path in files if FAKE_KEY.encode() in path.read_bytes()]


AGENT = """
import sys
import yaml
from wandb.wandb_agent import Agent

def first_of(given):
    return given["values"][0] if "values" in given else given.get("value", given.get("min"))

sweep = yaml.safe_load(open(sys.argv[1]))
agent = Agent(api=None, queue=None, sweep_id="q7w3")
agent._sweep_command = [*sweep["command"], *sys.argv[2:]]
first = {name: {"value": first_of(given)} for name, given in sweep["parameters"].items()}
agent._command_run({"run_id": "k2v9x1", "program": None, "args": first})
sys.exit(agent._run_processes["k2v9x1"].wait())
"""


@pytest.mark.parametrize("file", SWEEPS, ids=lambda path: path.stem)
def test_wandbs_agent_runs_the_first_point_of_its_sweep(
    file: Path,
    tmp_path: Path,
    tracked: Callable[[Path], list[Tracked]],
    clean_environment: dict[str, str],
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AGENT, str(file), *SMALL],
        cwd=tmp_path,
        env=clean_environment
        | {
            "BERTEXP_CACHE": str(tmp_path / "cache"),
            # As the agent finds its interpreter.
            "PATH": f"{Path(sys.executable).parent}:{clean_environment['PATH']}",
            **{"WANDB_SWEEP_ID": "q7w3", "WANDB_MODE": "offline"},
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Ignoring" not in done.stdout + done.stderr, "W&B warns of what the agent overrules"
    (found,) = tracked(tmp_path)
    assert (found.totals["run_id"], found.run["run_group"]) == ("k2v9x1", "q7w3")
    assert found.run["sweep_id"] == "q7w3"
    (folder,) = (tmp_path / "outputs").glob("20*/*")
    assert read_summary(folder)["tracker_id"] == "k2v9x1"

    given = yaml.safe_load(file.read_text())
    config = found.totals["config"]
    first = given["parameters"]["masking.prob"]
    assert config["masking"]["prob"] == first.get("values", [first.get("min")])[0]
    assert config["masking"]["replace"] == {
        "mask": 1.0,
        "random": 0.0,
        "keep": 0.0,
        "special": False,
    }
    # What the agent gave stands beside it, and is what W&B's own charts of a sweep go by.
    assert config["masking.prob"] == config["masking"]["prob"]
    history = [record["item"] for record in found.records["history"]]
    assert any(given["metric"]["name"] in row for row in history)
