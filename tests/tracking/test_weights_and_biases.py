"""Real W&B runs, offline, read back with W&B's own reader."""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

OPEN = """
import logging
import sys
from pathlib import Path

from bertexp.tracking.config import TrackerConfig
from bertexp.tracking.identity import RunIdentity
from bertexp.tracking.trackers import open_tracker
from bertexp.validation import UserError

logging.basicConfig(format="%(message)s", stream=sys.stdout)

def opened(mode, id="mlm-p0.40-s1-abc"):
    config = TrackerConfig(
        name="wandb", mode=mode, project="bertexp", entity=None, group=None, tags=[]
    )
    who = RunIdentity(id=id, name="mlm", group="ratios", tags=("mlm", "tiny"), job_type="pretrain")
    resolved = {"masking": {"prob": 0.4}, "tags": ["a", "b"]}
    return open_tracker(config, who, Path(), Path.cwd() / "outputs", resolved)

def track(mode, id="mlm-p0.40-s1-abc"):
    tracker = opened(mode, id)
    tracker.start()
    tracker.log({"a": 1}, 1)
    tracker.finish()
"""

FAKE_KEY = "0123456789" * 4


def kinds(folder: Path) -> list[str]:
    """Return whether the runs of a folder were online, ``run``, or ``offline``."""
    paths = sorted((folder / "outputs" / "wandb").glob("*run-*/*.wandb"))
    return [path.parent.name.split("-")[0] for path in paths]


def test_two_runs_in_one_process_are_two_and_the_first_shows_failed(
    script: Callable[..., tuple[str, str]], tracked: Callable[..., list[Any]], tmp_path: Path
) -> None:
    printed = script(
        OPEN
        + """
from accelerate import Accelerator
failing = opened("offline", "mlm-p0.40-s1-abc")
accelerator = Accelerator(cpu=True, log_with=[failing])
accelerator.init_trackers("bertexp")
for step, loss, accuracy in ((10, 3.0, 0.5), (20, 2.0, 0.7), (30, 2.5, 0.6)):
    accelerator.log({"train/loss": loss}, step=step)
    accelerator.log({"eval/loss": loss, "eval/nsp_accuracy": accuracy}, step=step)
accelerator.log({"train/loss": 2.6}, step=20)
failing.close(failed=True)
failing.close(failed=False)
failing.log({"train/loss": 9.0}, step=99)
second = opened("offline", "mlm-p0.40-s2-abc")
second.start()
second.log({"train/loss": 1.0}, step=1)
second.finish()
print(second.location)
"""
    )
    failed, finished = tracked(tmp_path)
    assert (failed.totals["run_id"], failed.totals["state"]) == ("mlm-p0.40-s1-abc", "failed")
    assert failed.totals["config"] == {"masking": {"prob": 0.4}, "tags": ["a", "b"]}
    assert failed.totals["tags"] == ["mlm", "tiny"]
    assert (failed.run["run_group"], failed.run["job_type"]) == ("ratios", "pretrain")
    summary = failed.totals["summary"]
    assert summary["eval/loss"] == {"min": 2.0, "last": 2.5}
    assert summary["eval/nsp_accuracy"] == {"max": 0.7, "last": 0.6}
    assert summary["train/loss"] == 2.6
    metrics = failed.records["metric"]
    globs = {m["glob_name"]: m["step_metric"] for m in metrics if "glob_name" in m}
    assert globs == {"train/*": "trainer/step", "eval/*": "trainer/step"}
    assert len(failed.rows) == 7, "a lower step must not be dropped"
    assert all("trainer/step" in row for row in failed.rows)
    assert finished.totals["run_id"] == "mlm-p0.40-s2-abc"
    assert (finished.totals["state"], finished.totals["summary"]["train/loss"]) == ("finished", 1)
    pattern = "outputs/wandb/offline-run-*-mlm-p0.40-s2-abc"
    assert [*tmp_path.glob(pattern)] == [finished.file.parent]
    assert printed == (f"wandb leet outputs/wandb\nwandb sync {pattern}\n", "")


@pytest.mark.parametrize("given", [{}, {"WANDB_API_KEY": FAKE_KEY, "WANDB_MODE": "offline"}])
def test_without_a_key_or_by_the_users_own_setting_auto_is_offline_and_silent(
    script: Callable[..., tuple[str, str]], tmp_path: Path, given: dict[str, str]
) -> None:
    assert script(OPEN + 'track("auto")', **given) == ("", "")
    assert kinds(tmp_path) == ["offline"]


def test_a_key_without_network_is_offline(
    script: Callable[..., tuple[str, str]], tmp_path: Path
) -> None:
    nobody = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_HTTP_TIMEOUT": "3"}
    output, errors = script(OPEN + 'track("auto")', WANDB_API_KEY=FAKE_KEY, **nobody)
    assert kinds(tmp_path) == ["offline"]
    (line,) = output.splitlines()
    upload = shlex.split(line.partition("Tracked offline; to upload: wandb sync ")[2])
    assert [*tmp_path.glob(upload[0])]
    assert errors == ""


class Halfway(BaseHTTPRequestHandler):
    """A server that accepts any key and then refuses every run."""

    logins = 0

    def do_POST(self) -> None:
        question = self.rfile.read(int(self.headers["Content-Length"]))
        answer = b'{"data": null, "errors": [{"message": "permission denied"}]}'
        if b"query Viewer" in question:
            Halfway.logins += 1
            answer = b'{"data": {"viewer": {"id": "1", "username": "u", "entity": "u"}}}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: object) -> None:
        """Keep quiet."""


def test_a_run_the_server_refuses_is_offline_and_the_next_one_does_not_ask(
    script: Callable[..., tuple[str, str]], tmp_path: Path
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Halfway) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        code = OPEN + 'track("auto", "first")\ntrack("auto", "second")'
        output, _ = script(code, WANDB_API_KEY=FAKE_KEY, WANDB_BASE_URL=url)
        server.shutdown()
    (line,) = output.splitlines()
    assert "permission denied. Tracked offline; to upload: wandb sync" in line
    assert kinds(tmp_path) == ["offline", "offline", "run"]
    assert Halfway.logins == 1


@pytest.mark.parametrize(
    ("key", "problem"),
    [("", "W&B has no API key"), ("short", "API key must have 40+ characters")],
)
def test_online_without_a_key_is_the_users_error(
    script: Callable[..., tuple[str, str]], key: str, problem: str
) -> None:
    code = 'try:\n    opened("online").start()\nexcept UserError as error:\n    print(error)'
    (line,) = script(OPEN + code, WANDB_API_KEY=key)[0].splitlines()
    assert line.startswith("tracker.mode=online: ")
    assert problem in line
    assert line.endswith("or choose tracker.mode=offline.")


def test_on_a_terminal_nothing_is_asked(on_a_terminal: Callable[..., str], tmp_path: Path) -> None:
    assert on_a_terminal(OPEN + 'track("auto")\nprint("done")').strip() == "done"
    assert kinds(tmp_path) == ["offline"]


BESIDE = """
from pathlib import Path
from bertexp.tracking.config import TrackerConfig
from bertexp.tracking.trackers import open_beside
config = TrackerConfig(
    name="{name}", mode="offline", project="bertexp", entity=None, group=None, tags=["mine"]
)
run = open_beside(config, "compare", "ratios", group="ratios", facts={{"metric": "eval/loss"}},
                  id_file=Path("id"))
if run:
    run.log_rows("comparison/table", ["setting", "mean", "difference"],
                 [["masking.prob=0.4", 2.25, None]])
    run.log_pictures("comparison", [Path("curves.png")])
    run.finish()
print(run and run.location)
"""


def test_a_comparison_is_a_run_of_the_group_for_wandb_alone(
    script: Callable[..., tuple[str, str]], tracked: Callable[..., list[Any]], tmp_path: Path
) -> None:
    Image.new("RGB", (4, 3)).save(tmp_path / "curves.png")
    assert script(BESIDE.format(name="none"))[0] == "None\n"
    assert not (tmp_path / "outputs").exists()
    output, _ = script(BESIDE.format(name="wandb"))
    (found,) = tracked(tmp_path)
    assert output.splitlines()[0] == "wandb leet outputs/wandb"
    assert (found.run["run_group"], found.run["job_type"]) == ("ratios", "compare")
    assert (found.totals["state"], found.totals["tags"]) == ("finished", ["compare", "mine"])
    assert found.table("comparison/table") == {
        "columns": ["setting", "mean", "difference"],
        "data": [["masking.prob=0.4", 2.25, None]],
    }
    picture = found.totals["summary"]["comparison/curves"]
    assert (picture["width"], picture["height"]) == (4, 3)
    assert (found.file.parent / "files" / picture["path"]).is_file()
    assert found.totals["config"] == {"metric": "eval/loss"}
    # Compared again, it is the same run.
    output, _ = script(BESIDE.format(name="wandb"))
    again = tracked(tmp_path)
    assert len(again) == 2
    assert {one.totals["run_id"] for one in again} == {found.totals["run_id"]}
    assert output.splitlines()[1].endswith(f"/offline-run-*-{found.totals['run_id']}")


@pytest.mark.parametrize(
    ("sweep", "marked"),
    [
        ({}, {"SIGUSR1": True, "SIGINT": True}),
        # W&B's agent stops what it prunes by SIGTERM, and would restart it.
        ({"WANDB_SWEEP_ID": "q7w3"}, {"SIGTERM": False, "SIGUSR1": True}),
    ],
)
def test_a_stopped_run_is_preempted_unless_wandb_itself_stopped_it(
    script: Callable[..., tuple[str, str]],
    tracked: Callable[..., list[Any]],
    tmp_path: Path,
    sweep: dict[str, str],
    marked: dict[str, bool],
) -> None:
    stop = """
import signal
tracker = opened("offline", "{name}")
tracker.start()
tracker.log({{"train/loss": float(signal.{name})}}, 1)
tracker.stop(signal.{name})
tracker.close(failed=True)
"""
    script(OPEN + "".join(stop.format(name=name) for name in marked), **sweep)
    found = {
        signal.Signals(each.totals["summary"]["train/loss"]).name: "preempting" in each.records
        for each in tracked(tmp_path)
    }
    assert found == marked


def test_wandbs_variables_are_obeyed_and_a_key_of_the_command_line_comes_first(
    command: Callable[..., Any], tracked: Callable[..., list[Any]], tmp_path: Path
) -> None:
    small = (
        *("dataset=synthetic", "dataset.synthetic.documents=60", "tokenizer.vocab_size=256"),
        *("model.hidden_size=16", "trainer.max_steps=2", "evaluation.pseudo_perplexity=0"),
        *("evaluation.probes=[]", "evaluation.max_examples=8", "hardware.threads=1"),
    )
    given = {"MODE": "offline", "PROJECT": "theirs", "NAME": "run7", "TAGS": "a,b", "DIR": "wd"}
    environment = {f"WANDB_{name}": value for name, value in given.items()}

    def run(*overrides: str, **more: str) -> tuple[list[dict[str, Any]], list[str]]:
        done = command(*small, *overrides, folder=tmp_path, **(environment | more))
        assert done.code == 0, done.lines
        return [found.run for found in tracked(tmp_path, "wd")], done.lines

    assert run(WANDB_DISABLED="true")[0] == []
    (found,), lines = run()
    assert (found["project"], found["display_name"]) == ("theirs", "run7")
    assert {"a", "b"} <= {*found["tags"]}
    # In one line, to be copied.
    (upload,) = [line for line in lines if "wandb sync" in line]
    assert [*tmp_path.glob(shlex.split(upload)[-1])]
    (_, found), _ = run(
        "tracker.project=mine", "name=first", "tracker.tags=[c]", WANDB_DISABLED="0"
    )
    assert (found["project"], found["display_name"]) == ("mine", "first")
    assert {"a", "c"} & {*found["tags"]} == {"c"}


def test_one_id_for_several_runs_is_refused(command: Callable[..., Any]) -> None:
    done = command("-m", "seed=0,1", "dataset=synthetic", WANDB_RUN_ID="mine")
    assert done.code == 1
    assert done.lines == [
        "error: WANDB_RUN_ID: is one run's id, and a sweep has several runs; unset it."
    ]
