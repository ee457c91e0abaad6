"""Processes that start at once: ``python`` as forks of a server that has loaded the libraries.

Run as a program, this file is the server. It reads a request a line (JSON) and answers each with
a line. A call names the arguments that ``python`` would get (``-m`` and a module, or ``-c`` and
code), its folder, environment, files and user, and is answered with the process's number; a
request for that number is answered with the exit code, or with null while the process runs. The
server ends, with its processes, when its input does.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import re
import runpy
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn


class ForkServer:
    """Starts ``python`` with arguments, as ``subprocess`` would.

    Args:
        environment: of the server; what the libraries read once, when they are loaded.
        files: a folder for what the processes print.
    """

    def __init__(self, environment: dict[str, str], files: Path) -> None:
        self._files, self._calls = files, 0
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(
        self,
        *arguments: str,
        folder: Path,
        environment: dict[str, str],
        stdin: str = "",
        together: bool = False,
        session: bool = False,
        user: int | None = None,
    ) -> Process:
        """Start a process, and do not wait for it.

        Args:
            arguments: ``-m`` and a module or ``-c`` and code, then the program's own.
            folder: where it works.
            environment: all of it.
            stdin: what it reads.
            together: whether both of its streams are one, the first.
            session: whether it has a session of its own, as under a terminal of its own.
            user: whose rights it has.
        """
        self._calls += 1
        names = [self._files / f"{self._calls}.{name}" for name in ("in", "out", "err")]
        names[0].write_text(stdin, encoding="utf-8", errors="surrogateescape")
        for name in names[1:]:
            name.touch()
            name.chmod(0o666)
        pid = self.request(
            arguments=arguments,
            folder=str(folder),
            environment=environment,
            user=user,
            session=session,
            stdin=str(names[0]),
            stdout=str(names[1]),
            stderr=str(names[1] if together else names[2]),
        )
        return Process(self, pid, names[1], names[2])

    def request(self, **request: Any) -> Any:
        """Send a request and return its answer."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        if self._calls == 1 and "arguments" in request:
            assert self._server.stdout.readline() == "ready\n"
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def close(self) -> None:
        """End the server and what still runs."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(timeout=600)


class Process:
    """A process that the server has started, and what it has printed so far."""

    def __init__(self, server: ForkServer, pid: int, output: Path, errors: Path) -> None:
        self.pid = pid
        self._server, self._output, self._errors = server, output, errors
        self._code: int | None = None

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    @property
    def errors(self) -> str:
        return self._errors.read_text(errors="replace")

    def code(self, seconds: float = 0) -> int | None:
        """Return the exit code, waiting for it so long; None while the process runs."""
        if self._code is None:
            self._code = self._server.request(pid=self.pid, seconds=seconds)
        return self._code

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something while the process runs."""
        while not condition():
            assert self.code() is None, self.output + self.errors
            time.sleep(0.005)

    def end(self, seconds: float = 600) -> int:
        """Return the exit code; a process that takes longer is killed."""
        code = self.code(seconds)
        if code is None:
            os.kill(self.pid, signal.SIGKILL)
            raise TimeoutError(f"after {seconds} seconds: {self.output}{self.errors}")
        return code


# Seconds that are spent once here. Not W&B, which makes temporary folders when it is loaded, and
# whose calls over a network hang now and then in a fork.
LOADED = (
    *("accelerate.tracking", "datasets", "matplotlib.backends.backend_agg", "matplotlib.figure"),
    *("pandas", "pydantic", "requests", "scipy.stats", "sklearn.linear_model", "sklearn.pipeline"),
    *("tokenizers", "transformers.models.bert.modeling_bert", "transformers.models.auto"),
    "transformers.models.bert.tokenization_bert",
)
# Commands are run from their files, so neither they nor what imports them is loaded.
LEFT_OUT = re.compile(r"bertexp\.(.*\.)?(__main__|doctor|api\..*|workspace|weights_and_biases)")


def serve() -> None:
    from hydra import compose, initialize_config_dir
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    import bertexp
    from bertexp.config import conf_dir, parse

    own = (found.name for found in pkgutil.walk_packages(bertexp.__path__, "bertexp."))
    for module in (*LOADED, *own):
        if not LEFT_OUT.fullmatch(module):
            importlib.import_module(module)
    # Hydra reads the whole environment for plugins, and its parser learns as it goes.
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        parse(compose("config", overrides=["seed=1", "dataset=text", "dataset.files=['a']"]))
    # Of every model that is saved: 1,044 patterns of names of weights are compiled once.
    get_checkpoint_conversion_mapping("bert")
    # What the libraries take apart at their end is this process's: 70 ms of each of its forks.
    for made in list(weakref.finalize._registry):
        made.atexit = False
    gc.freeze()
    running: set[int] = set()
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "arguments" in request:
            answer: int | None = os.fork()
            if not answer:
                call(request)
            running.add(answer)
        else:
            answer = wait(request["pid"], request["seconds"])
            if answer is not None:
                running.discard(request["pid"])
        print(json.dumps(answer), flush=True)
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def wait(pid: int, seconds: float) -> int | None:
    until = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            return None
        time.sleep(0.002)


def call(request: dict[str, Any]) -> NoReturn:
    """Be the requested process, and end as it does."""
    code = 1
    try:
        run(request)
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
        if isinstance(ending.code, str):
            print(ending.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    # What an interpreter does at its end, but for taking everything apart, module by module: that
    # takes a fork of this one half a second.
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def run(request: dict[str, Any]) -> None:
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        descriptor = os.open(request[name], os.O_WRONLY | os.O_APPEND if number else os.O_RDONLY)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = os.fdopen(0, closefd=False)
    if request["session"]:
        os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    if request["user"]:
        os.seteuid(request["user"])
    how, what, *arguments = request["arguments"]
    sys.argv = [what, *arguments]
    if how == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.argv[0] = how
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    # Only the folder of this file: a test module must not hide an installed one.
    sys.path.remove(str(Path(__file__).parent))
    serve()
