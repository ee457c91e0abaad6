"""Real W&B runs, offline, read back with W&B's own reader."""

from __future__ import annotations

import json
import shlex
import textwrap
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

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
"""

FAKE_KEY = "0123456789" * 4


def files(folder: Path) -> list[Path]:
    return sorted((folder / "outputs" / "wandb").glob("*run-*/*.wandb"))


def test_two_runs_in_one_process_are_two_and_the_first_shows_failed(
    script: Callable, leet: Callable[..., str], tmp_path: Path
) -> None:
    done = script(
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
    first, second = files(tmp_path)
    failed = json.loads(leet(first, "--summary"))
    assert (failed["run_id"], failed["state"]) == ("mlm-p0.40-s1-abc", "failed")
    assert failed["config"] == {"masking": {"prob": 0.4}, "tags": ["a", "b"]}
    assert failed["tags"] == ["mlm", "tiny"]
    assert failed["summary"]["eval/loss"] == {"min": 2.0, "last": 2.5}
    assert failed["summary"]["eval/nsp_accuracy"] == {"max": 0.7, "last": 0.6}
    assert failed["summary"]["train/loss"] == 2.6
    finished = json.loads(leet(second, "--summary"))
    assert (finished["run_id"], finished["state"]) == ("mlm-p0.40-s2-abc", "finished")
    assert finished["summary"]["train/loss"] == 1.0

    kinds: dict[str, list[dict]] = {}
    for line in leet(first).splitlines():
        record = json.loads(line)
        kinds.setdefault(record["type"], []).append(record[record["type"]])
    assert kinds["run"][0]["run_group"] == "ratios"
    assert kinds["run"][0]["job_type"] == "pretrain"
    globs = {m["glob_name"]: m["step_metric"] for m in kinds["metric"] if "glob_name" in m}
    assert globs == {"train/*": "trainer/step", "eval/*": "trainer/step"}
    rows = [json.dumps(row) for row in kinds["history"]]
    assert len(rows) == 7, "a lower step must not be dropped"
    assert all("trainer/step" in row for row in rows)

    offline = second.parent.relative_to(tmp_path)
    assert done.stdout == f"wandb leet outputs/wandb\nwandb sync {offline}\n"
    assert done.stderr == ""


def test_without_a_key_auto_is_offline_and_silent(script: Callable, tmp_path: Path) -> None:
    done = script(OPEN + 'tracker = opened("auto")\ntracker.start()\ntracker.close(failed=False)')
    assert [file.parent.name.split("-")[0] for file in files(tmp_path)] == ["offline"]
    assert (done.stdout, done.stderr) == ("", "")


def test_a_key_without_network_is_offline(script: Callable, tmp_path: Path) -> None:
    code = 'tracker = opened("auto")\ntracker.start()\ntracker.log({"a": 1}, 1)\ntracker.finish()'
    nobody = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_HTTP_TIMEOUT": "3"}
    done = script(OPEN + code, WANDB_API_KEY=FAKE_KEY, **nobody)
    (file,) = files(tmp_path)
    assert file.parent.name.startswith("offline-run-")
    (line,) = done.stdout.splitlines()
    upload = shlex.join(["wandb", "sync", str(file.parent.relative_to(tmp_path))])
    assert line.endswith(f"Tracked offline; to upload: {upload}")
    assert done.stderr == ""


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
    script: Callable, tmp_path: Path
) -> None:
    code = """
    for id in ("first", "second"):
        tracker = opened("auto", id)
        tracker.start()
        tracker.log({"a": 1}, 1)
        tracker.finish()
    """
    with ThreadingHTTPServer(("127.0.0.1", 0), Halfway) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        done = script(OPEN + textwrap.dedent(code), WANDB_API_KEY=FAKE_KEY, WANDB_BASE_URL=url)
        server.shutdown()
    (line,) = done.stdout.splitlines()
    assert "permission denied. Tracked offline; to upload: wandb sync" in line
    kinds = [file.parent.name.split("-")[0] for file in files(tmp_path)]
    assert kinds == ["offline", "offline", "run"]
    assert Halfway.logins == 1


@pytest.mark.parametrize(
    ("key", "problem"),
    [("", "W&B has no API key"), ("short", "API key must have 40+ characters")],
)
def test_online_without_a_key_is_the_users_error(script: Callable, key: str, problem: str) -> None:
    code = 'try:\n    opened("online").start()\nexcept UserError as error:\n    print(error)'
    (line,) = script(OPEN + code, WANDB_API_KEY=key).stdout.splitlines()
    assert line.startswith("tracker.mode=online: ")
    assert problem in line
    assert line.endswith("or choose tracker.mode=offline.")


def test_the_users_own_offline_setting_holds_in_auto(script: Callable, tmp_path: Path) -> None:
    code = 'tracker = opened("auto")\ntracker.start()\ntracker.finish()'
    done = script(OPEN + code, WANDB_API_KEY=FAKE_KEY, WANDB_MODE="offline")
    assert len(files(tmp_path)) == 1
    assert done.stdout == ""


def test_on_a_terminal_nothing_is_asked(on_a_terminal: Callable[..., str], tmp_path: Path) -> None:
    code = OPEN + 'tracker = opened("auto")\ntracker.start()\ntracker.finish()\nprint("done")'
    assert on_a_terminal(code).strip() == "done"
    assert [file.parent.name.split("-")[0] for file in files(tmp_path)] == ["offline"]


COMPARE = """
from pathlib import Path
from bertexp.tracking.trackers import log_beside
from bertexp.tracking.config import TrackerConfig
config = TrackerConfig(
    name="{name}", mode="offline", project="bertexp", entity=None, group=None, tags=["mine"]
)
rows = [["masking.prob=0.15", 2.5, None], ["masking.prob=0.4", 2.25, 0.25]]
table = (["setting", "mean", "difference"], rows)
print(log_beside(config, job_type="compare", about="ratios", group="ratios", section="comparison",
                 table=table, pictures=[Path("curves.png")], root=Path("outputs")))
"""


def test_a_comparison_is_a_run_of_the_group(
    script: Callable, leet: Callable[..., str], tmp_path: Path
) -> None:
    from PIL import Image

    Image.new("RGB", (4, 3)).save(tmp_path / "curves.png")
    done = script(COMPARE.format(name="wandb"))
    (file,) = files(tmp_path)
    assert done.stdout.splitlines()[0] == "wandb leet outputs/wandb"
    records = [json.loads(line) for line in leet(file).splitlines()]
    run = next(record["run"] for record in records if record["type"] == "run")
    assert (run["run_group"], run["job_type"]) == ("ratios", "compare")
    found = json.loads(leet(file, "--summary"))
    assert (found["state"], found["tags"]) == ("finished", ["compare", "mine"])
    table = found["summary"]["comparison/table"]
    assert json.loads((file.parent / "files" / table["path"]).read_text()) == {
        "columns": ["setting", "mean", "difference"],
        "data": [["masking.prob=0.15", 2.5, None], ["masking.prob=0.4", 2.25, 0.25]],
    }
    picture = found["summary"]["comparison/curves"]
    assert (picture["width"], picture["height"]) == (4, 3)
    assert (file.parent / "files" / picture["path"]).is_file()


def test_a_comparison_without_wandb_is_no_run(script: Callable, tmp_path: Path) -> None:
    assert script(COMPARE.format(name="none")).stdout == "None\n"
    assert not (tmp_path / "outputs").exists()


def test_wandbs_variables_are_obeyed_and_a_key_of_the_command_line_comes_first(
    command: Callable, leet: Callable[..., str], tmp_path: Path
) -> None:
    small = (
        *("dataset=synthetic", "dataset.synthetic.documents=60", "tokenizer.vocab_size=256"),
        *("model.hidden_size=16", "trainer.max_steps=2", "evaluation.pseudo_perplexity=0"),
        *("evaluation.probes=[]", "evaluation.max_examples=8", "hardware.threads=1"),
    )
    given = {"MODE": "offline", "PROJECT": "theirs", "NAME": "run7", "TAGS": "a,b", "DIR": "wd"}
    environment = {f"WANDB_{name}": value for name, value in given.items()}

    def run(*overrides: str, **more: str) -> tuple[dict, list[str]]:
        done = command(*small, *overrides, folder=tmp_path, **(environment | more))
        assert done.code == 0, done.said
        folders = sorted(tmp_path.glob("wd/wandb/offline-run-*"))
        if not folders:
            return {}, done.said
        records = map(json.loads, leet(next(folders[-1].glob("*.wandb"))).splitlines())
        return next(each["run"] for each in records if each["type"] == "run"), done.said

    disabled, _ = run(WANDB_DISABLED="true")
    assert not disabled
    found, said = run()
    assert (found["project"], found["display_name"]) == ("theirs", "run7")
    assert {"a", "b"} <= {*found["tags"]}
    # In one line, to be copied.
    (upload,) = [line for line in said if "wandb sync" in line]
    assert (tmp_path / shlex.split(upload)[-1]).is_dir()
    found, _ = run("tracker.project=mine", "name=first", "tracker.tags=[c]", WANDB_DISABLED="0")
    assert (found["project"], found["display_name"]) == ("mine", "first")
    assert "c" in found["tags"]
    assert "a" not in found["tags"]


def test_one_id_for_several_runs_is_refused(command: Callable) -> None:
    done = command("-m", "seed=0,1", "dataset=synthetic", WANDB_RUN_ID="mine")
    assert done.code == 1
    assert done.said == [
        "error: WANDB_RUN_ID: is one run's id, and a sweep has several runs; unset it."
    ]
