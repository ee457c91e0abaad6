"""A sweep tracked by W&B without a network, and W&B's own sweeps, read back by W&B's own reader."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
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


@pytest.fixture(scope="module")
def sweep(command: Callable[..., Any]) -> Any:
    """A sweep with a key but no network, of whose four jobs two, in the middle, fail."""
    jobs = ("masking.prob=0.15,0.4", "model.hidden_size=32,1048576")
    return command("-m", *jobs, *SMALL, "sweep=ratios", "seed=3", "tracker.tags=[mine]", **NOBODY)


@pytest.fixture(scope="module")
def runs(sweep: Any, tracked: Callable[..., list[Any]]) -> list[Any]:
    """The sweep as W&B knows it: its jobs and, at the end, their comparison."""
    return tracked(sweep.folder)


def test_every_job_is_a_run_of_its_own_in_the_sweeps_group(sweep: Any, runs: list[Any]) -> None:
    assert sweep.code == 1
    jobs = [found for found in runs if found.run["job_type"] == "pretrain"]
    assert {(found.run["run_group"], found.run["project"]) for found in jobs} == {
        ("ratios", "bertexp")
    }
    folders = (sweep.folder / "outputs" / "sweeps" / "ratios").glob("*/summary.json")
    known = [read_summary(path.parent)["tracker_id"] for path in folders]
    assert sorted(found.totals["run_id"] for found in jobs) == sorted(known)
    assert len(known) == 4
    points = []
    for job in jobs:
        config = job.totals["config"]
        size, prob = config["model"]["hidden_size"], config["masking"]["prob"]
        points.append((prob, size))
        assert job.totals["name"] == f"mlm-hidden_size{size}-p{prob:.2f}-s3"
        assert set(job.totals["tags"]) == {"mlm", "tiny", "token", "mine"}
        assert config["versions"].keys() >= {"python", "torch", "wandb", "git_commit"}
        failed = size > 32
        assert job.totals["state"] == ("failed" if failed else "finished")
        assert [end["exit_code"] for end in job.records["exit"]] == [int(failed)]
    assert sorted(points) == [(prob, size) for prob in (0.15, 0.4) for size in (32, 2**20)]


def test_a_job_that_trained_has_its_history_best_values_and_answers(runs: list[Any]) -> None:
    trained = [
        job
        for job in runs
        if (job.run["job_type"], job.totals["state"]) == ("pretrain", "finished")
    ]
    one, other = (job.totals["config"]["fingerprints"] for job in trained)
    assert one == other
    assert one.keys() >= {"corpus", "tokenizer", "bank"}
    for job in trained:
        losses = [row["eval/loss"] for row in job.rows if "eval/loss" in row]
        assert [row["trainer/step"] for row in job.rows if "eval/loss" in row] == [0, 5, 10]
        assert [row["trainer/step"] for row in job.rows if "train/loss" in row] == [5, 10]
        assert job.totals["summary"]["eval/loss"] == {"min": min(losses), "last": losses[-1]}
        answers = job.table("samples/masked")
        assert answers["columns"] == ["text", "truth", "prediction", "probability", "right"]
        assert answers["data"]
        for text, truth, prediction, probability, right in answers["data"]:
            assert "[MASK]" in text
            assert right == (truth == prediction)
            assert 0 < probability < 1


def test_the_comparison_is_a_run_of_the_same_group_and_one_command_uploads_all(
    sweep: Any, runs: list[Any]
) -> None:
    (compared,) = [found for found in runs if found.run["job_type"] == "compare"]
    assert (compared.run["run_group"], compared.totals["state"]) == ("ratios", "finished")
    assert "comparison/metric" in compared.totals["summary"]
    columns = compared.table("comparison/table")["columns"]
    assert {"label", "mean", "eval/probe/length"} < set(columns)
    lines = sweep.output.splitlines()
    assert "wandb leet outputs/wandb" in lines
    assert "wandb sync outputs/wandb/offline-run-*" in lines


def test_the_network_is_missed_in_one_line_and_a_key_reaches_no_file_and_no_terminal(
    sweep: Any,
) -> None:
    (line,) = [line for line in sweep.lines if "Tracked offline" in line]
    upload = line.partition("; to upload: wandb sync ")[2]
    assert upload.startswith("outputs/wandb/offline-run-")
    assert (sweep.folder / upload).is_dir()
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
def test_wandbs_sweeps_are_over_keys_and_values_that_there_are(
    experiment_config: Callable[..., Any], file: Path
) -> None:
    for name, given in yaml.safe_load(file.read_text())["parameters"].items():
        values = [given.get(bound) for bound in ("value", "min", "max")] + given.get("values", [])
        known = [value for value in values if value is not None]
        assert known
        if not name.startswith("masking.replace"):  # shares that add up to 1 together
            for value in known:
                experiment_config(f"{name}={value}")


def test_wandbs_agent_runs_the_first_point_of_its_sweep(
    tmp_path: Path,
    tracked: Callable[..., list[Any]],
    clean_environment: dict[str, str],
) -> None:
    (file,) = (path for path in SWEEPS if "bayes" in path.stem)
    environment = clean_environment | {
        "BERTEXP_CACHE": str(tmp_path / "cache"),
        # As the agent finds its interpreter.
        "PATH": f"{Path(sys.executable).parent}:{clean_environment['PATH']}",
        **{"WANDB_SWEEP_ID": "q7w3", "WANDB_MODE": "offline"},
    }
    done = subprocess.run(
        [sys.executable, "-c", AGENT, str(file), *SMALL],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
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
    assert any(given["metric"]["name"] in row for row in found.rows)
