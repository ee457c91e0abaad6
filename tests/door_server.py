"""Python, warm: every call is a fork of one process that has loaded what bertexp loads.

Reads a request a line (JSON) and answers each with a line. A call says the arguments that
``python`` would get (``-m`` and a module, or ``-c`` and code), its folder, environment, files
and user, and is answered with the number of its process; a request for that number is answered
with the exit code, or with null while it runs. Ends, with its processes, when its input does.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import signal
import sys
import threading
import time
from typing import Any, NoReturn

# What a call would load: seconds that are spent once here. Not W&B, which makes temporary folders
# when it is loaded, and whose calls over a network hang now and then in a fork.
import accelerate.tracking  # noqa: F401
import datasets  # noqa: F401
import matplotlib.backends.backend_agg
import matplotlib.figure  # noqa: F401
import pandas  # noqa: F401
import pydantic  # noqa: F401
import requests  # noqa: F401
import scipy.stats  # noqa: F401
import sklearn.linear_model
import sklearn.pipeline  # noqa: F401
import tokenizers  # noqa: F401
from hydra import compose, initialize_config_dir
from transformers import AutoConfig, AutoTokenizer, BertConfig, BertTokenizer  # noqa: F401
from transformers.models.bert import modeling_bert  # noqa: F401

import bertexp.experiment.pretrain  # noqa: F401
from bertexp.config import conf_dir, parse


def serve() -> None:
    # Hydra reads the whole environment for plugins, and its parser learns as it goes.
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        parse(compose("config", overrides=["seed=1", "dataset=text", "dataset.files=['a']"]))
    gc.freeze()
    running: set[int] = set()
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "arguments" in request:
            pid = os.fork()
            if pid == 0:
                call(request)
            running.add(pid)
            answer = pid
        else:
            answer = wait(request["pid"], request["seconds"])
            if answer is not None:
                running.discard(request["pid"])
        print(json.dumps(answer), flush=True)
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def wait(pid: int, seconds: float) -> int | None:
    """Return the exit code, or None if the process runs for more seconds than that."""
    until = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            return None
        time.sleep(0.002)


def call(request: dict[str, Any]) -> NoReturn:
    """Be the process that was asked for, and end as it does."""
    code = 1
    try:
        _run(request)
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


def _run(request: dict[str, Any]) -> None:
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        descriptor = os.open(request[name], os.O_WRONLY | os.O_APPEND if number else os.O_RDONLY)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = os.fdopen(0, closefd=False)
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
    serve()
