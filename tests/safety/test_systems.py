"""Every system, file system and terminal: what one of them lacks is not needed."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from folders import summary

from bertexp.arguments import checked_arguments

ROOT = Path(__file__).parents[2]
Command = Callable[..., Any]
SMALL = (
    *("dataset=synthetic", "dataset.synthetic.documents=60", "dataset.validation_fraction=0.2"),
    *("tokenizer.vocab_size=256", "model.hidden_size=32", "model.intermediate_size=64"),
    *("trainer.max_steps=4", "trainer.batch_size=8", "tracker=none", "evaluation.probes=[]"),
    *("evaluation.pseudo_perplexity=null", "evaluation.max_examples=24"),
)


def python(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("env", {})
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        timeout=600,
        **{"stdout": subprocess.PIPE} | options,
    )


def test_no_command_needs_what_only_linux_has(
    tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    done = python(
        str(ROOT / "tests" / "elsewhere.py"),
        *("bertexp", *SMALL, "trainer.save_every=2", "hydra.run.dir=run"),
        *("+", "bertexp", "trainer.resume=run", "trainer.max_steps=6", "hardware.num_workers=1"),
        *("+", "bertexp", "-m", *SMALL, "sweep=seeds", "seed=0,1"),
        *("+", "bertexp.compare", "outputs/sweeps/seeds"),
        cwd=tmp_path,
        env=clean_environment | {"BERTEXP_CACHE": str(tmp_path / "cache")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sweep = tmp_path / "outputs" / "sweeps" / "seeds"
    runs = [tmp_path / "run", sweep / "seed=0", sweep / "seed=1"]
    assert [summary(run)["status"] for run in runs] == ["finished"] * 3
    assert (sweep / "compare.html").exists()


LOCKS = """
import subprocess, sys
from pathlib import Path
from bertexp.locks import Timeout, acquire, holder, is_held
path = Path(".lock")
if len(sys.argv) > 1:
    lock = acquire(path, 0)
    input(print("held", flush=True))
assert not is_held(path)
other = subprocess.Popen([sys.executable, __file__, ""], stdin=-1, stdout=-1, text=True)
assert other.stdout.readline() == "held\\n"
assert is_held(path)
try:
    acquire(path, 0)
except Timeout as error:
    assert f"process {other.pid} on " in holder(error), holder(error)
else:
    raise AssertionError
other.kill()
other.wait()
assert not is_held(path)
with acquire(path, 0):
    assert is_held(path)
assert not is_held(path)
"""

NO_LOCKS = """
#include <errno.h>
int flock(int descriptor, int operation) { errno = ERRNO; return -1; }
"""


@pytest.mark.parametrize("error", [None, "ENOLCK", "ENOSYS"])
def test_a_lock_ends_with_its_process_on_every_file_system(
    tmp_path: Path, error: str | None
) -> None:
    (tmp_path / "locks.py").write_text(LOCKS)
    environment = {}
    if error:
        compiler = shutil.which("gcc")
        if not compiler:
            pytest.skip("needs gcc")
        (tmp_path / "no_locks.c").write_text(NO_LOCKS)
        command = [compiler, "-shared", "-fPIC", f"-DERRNO={error}", "-o", "no_locks.so"]
        subprocess.run([*command, "no_locks.c"], cwd=tmp_path, check=True)
        environment["LD_PRELOAD"] = str(tmp_path / "no_locks.so")
    done = python("locks.py", cwd=tmp_path, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_output_that_is_not_utf_8_ends_nothing(command: Command) -> None:
    ascii = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    accumulated = ("trainer.gradient_accumulation_steps=2", "hydra.run.dir=run")
    done = command(*SMALL, *accumulated, cold=True, **ascii)
    assert done.code == 0, done.errors
    assert "8 examples ? 2" in done.output
    run = done.folder / "run"
    assert "8 examples × 2" in (run / "bertexp.log").read_text(encoding="utf-8")
    filled = command(
        *(str(run), "--json"), module="bertexp.predict", stdin="[MASK] ü", cold=True, **ascii
    )
    assert filled.code == 0, filled.errors
    assert json.loads(filled.output)["text"] == "[MASK] ü"


def test_lost_output_is_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        done = python("-m", "bertexp.predict", "--help", stdout=full)
    assert done.returncode == 1
    assert done.stderr == "error: the output cannot be written (No space left on device).\n"


NOBODY = """
import os
from bertexp.data.cache import cache_root
from bertexp.files import ensure_home
del os.environ["HOME"], os.environ["BERTEXP_CACHE"]
os.setuid(43210)
ensure_home()
print(cache_root())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_without_a_home_a_temporary_one_is_used() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        home = Path(folder) / "bertexp-43210"
        environment = {"TMPDIR": folder, "HOME": folder, "BERTEXP_CACHE": folder}
        environment["XDG_CACHE_HOME"] = ""
        for _ in range(2):
            done = python("-c", NOBODY, env=environment)
            assert done.stdout == f"{home}/.cache/bertexp\n", done.stderr
            told = f"There is no home folder; {home} is used (set HOME to choose another).\n"
            assert done.stderr == told


def test_hydra_starts_where_argparse_reads_every_help(monkeypatch: pytest.MonkeyPatch) -> None:
    # What Python 3.14 does.
    def check_help(parser: argparse.ArgumentParser, action: argparse.Action) -> None:
        if action.help and "%" not in action.help:
            return

    def add_argument(parser: Any, *names: Any, **options: Any) -> argparse.Action:
        action: argparse.Action = add(parser, *names, **options)
        parser._check_help(action)
        return action

    check_help.__module__ = "argparse"
    add = argparse._ActionsContainer.add_argument
    monkeypatch.setattr(argparse.ArgumentParser, "_check_help", check_help, raising=False)
    monkeypatch.setattr(argparse.ArgumentParser, "add_argument", add_argument)
    assert checked_arguments(["seed=1", "-m"]) == ["-m", "seed=1"]
