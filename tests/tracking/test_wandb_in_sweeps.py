"""A sweep tracked by W&B without a network, and W&B's own sweeps, read back by W&B's own reader."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
    shown = {"label", "seeds", "mean", "low", "high", "difference_verdict", "eval/probe/length"}
    assert shown < set(columns)
    config = compared.totals["config"]
    assert config["metric"] == "eval/loss"
    assert "masking.prob" in config["baseline"] or config["warnings"]
    lines = sweep.output.splitlines()
    assert "wandb leet outputs/wandb" in lines
    assert "wandb sync outputs/wandb/offline-run-*" in lines


def test_the_network_is_missed_in_one_line_and_a_key_reaches_no_file_and_no_terminal(
    sweep: Any,
) -> None:
    (line,) = [line for line in sweep.lines if "Tracked offline" in line]
    upload = line.partition("; to upload: wandb sync ")[2]
    assert upload.startswith("outputs/wandb/offline-run-")
    assert [*sweep.folder.glob(upload)]
    assert FAKE_KEY not in sweep.output + sweep.errors
    files = [path for path in (sweep.folder / "outputs").rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    assert not [path for path in files if FAKE_KEY.encode() in path.read_bytes()]


class StandIn(BaseHTTPRequestHandler):
    """A W&B server that knows one sweep and hands out its first point, once."""

    sweep = ""
    handed_out = False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        asked = json.loads(body) if self.path == "/graphql" else {"query": ""}
        answer = json.dumps(self.answer(asked["query"], asked.get("variables") or {})).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def answer(self, query: str, values: dict[str, Any]) -> dict[str, Any]:
        """Return the response to a query of `wandb sweep` and `wandb agent`."""
        if "query Viewer" in query:
            found: Any = {"viewer": {"id": "1", "username": "u", "entity": "u", "flags": "{}"}}
        elif "mutation UpsertSweep" in query:
            StandIn.sweep = values["config"]
            project = {"id": "p", "name": values["projectName"], "entity": {"id": "u", "name": "u"}}
            sweep = {"name": "q7w3", "project": project}
            found = {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}
        elif "query SweepWithRuns" in query:
            known = {"id": "1", "name": "q7w3", "config": self.sweep, "runs": {"edges": []}}
            found = {"project": {"sweep": known}}
        elif "mutation CreateAgent" in query:
            found = {"createAgent": {"agent": {"id": "a"}}}
        elif "mutation Heartbeat" in query:
            commands = [] if self.handed_out else [self.first_point()]
            StandIn.handed_out = True
            found = {"agentHeartbeat": {"agent": {"id": "a"}, "commands": json.dumps(commands)}}
        else:
            return {"data": None, "errors": [{"message": "unknown"}]}
        return {"data": found}

    def first_point(self) -> dict[str, Any]:
        """Return the command that runs the first value of every parameter."""
        parameters = yaml.safe_load(self.sweep)["parameters"]
        values = {
            name: given["values"][0] if "values" in given else given.get("value", given.get("min"))
            for name, given in parameters.items()
        }
        arguments = {name: {"value": value} for name, value in values.items()}
        return {"type": "run", "run_id": "k2v9x1", "program": None, "args": arguments}

    def log_message(self, *arguments: object) -> None:
        """Keep quiet."""


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


def test_wandb_sweep_and_its_agent_run_the_first_point_in_a_clean_folder(
    tmp_path: Path,
    tracked: Callable[..., list[Any]],
    clean_environment: dict[str, str],
) -> None:
    (file,) = (path for path in SWEEPS if "bayes" in path.stem)
    # Small jobs; a sweep's file has no place for settings of all its jobs but its command.
    sweep = yaml.safe_load(file.read_text())
    (tmp_path / "sweep.yaml").write_text(
        yaml.dump(sweep | {"command": [*sweep["command"], *SMALL]})
    )
    environment = clean_environment | {
        "BERTEXP_CACHE": str(tmp_path / "cache"),
        # As the agent finds its interpreter.
        "PATH": f"{Path(sys.executable).parent}:{clean_environment['PATH']}",
        # The runs themselves: the stand-in has no place for them.
        **{"WANDB_MODE": "offline", "WANDB_API_KEY": FAKE_KEY, "HOME": str(tmp_path)},
    }

    def wandb(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "wandb", *arguments],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    with ThreadingHTTPServer(("127.0.0.1", 0), StandIn) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment["WANDB_BASE_URL"] = f"http://127.0.0.1:{server.server_port}"
        created = wandb("sweep", "--project", "bertexp", "sweep.yaml")
        (agent,) = (line for line in created.splitlines() if "wandb agent" in line)
        output = wandb("agent", "--count", "1", agent.split()[-1])
        server.shutdown()
    assert "Ignoring" not in output, "W&B warns of what the agent overrules"
    (found,) = tracked(tmp_path)
    assert (found.totals["run_id"], found.run["run_group"]) == ("k2v9x1", "q7w3")
    assert found.run["sweep_id"] == "q7w3"
    (folder,) = (tmp_path / "outputs").glob("20*/*")
    assert read_summary(folder)["tracker_id"] == "k2v9x1"

    config = found.totals["config"]
    first = sweep["parameters"]["masking.prob"]
    assert config["masking"]["prob"] == first.get("values", [first.get("min")])[0]
    assert config["masking"]["replace"] == {
        "mask": 1.0,
        "random": 0.0,
        "keep": 0.0,
        "special": False,
    }
    # What the agent gave stands beside it, and is what W&B's own charts of a sweep go by.
    assert config["masking.prob"] == config["masking"]["prob"]
    assert any(sweep["metric"]["name"] in row for row in found.rows)
