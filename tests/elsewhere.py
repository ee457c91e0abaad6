"""bertexp with Python as Windows and macOS have it: what they lack is taken away.

``python elsewhere.py MODULE ARGUMENT... + MODULE ARGUMENT...`` runs one module after the other;
it ends with the first code that is not 0. Processes that it spawns run this file too.
"""

from __future__ import annotations

import builtins
import multiprocessing
import os
import runpy
import signal
import sys
from itertools import groupby
from types import ModuleType
from typing import Any

MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "pty"}
FUNCTIONS = {
    *("sched_getaffinity", "fork", "getuid", "geteuid", "getpgid", "setpgrp", "setsid", "killpg"),
    *("sync", "uname", "register_at_fork", "fchmod", "mkfifo", "O_DIRECTORY", "O_NOFOLLOW"),
}
SIGNALS = {"SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGALRM", "alarm", "pthread_sigmask"}


class Lacking(ModuleType):
    """A module without some of its names."""

    def __init__(self, module: ModuleType, lacks: set[str]) -> None:
        super().__init__(module.__name__)
        self._module, self._lacks = module, lacks

    def __getattr__(self, name: str) -> Any:
        if name in self._lacks:
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        return getattr(self._module, name)


POORER = {"os": Lacking(os, FUNCTIONS), "signal": Lacking(signal, SIGNALS)}
_import = builtins.__import__


def import_elsewhere(name: str, *arguments: Any, **more: Any) -> Any:
    # Other libraries go by ``sys.platform``, and use all that Linux has.
    importer = str((arguments[0] or {}).get("__name__")) if arguments else ""
    if importer.startswith("filelock.") or importer.partition(".")[0] == "bertexp":
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        if name in POORER and importer.startswith("bertexp"):
            return POORER[name]
    return _import(name, *arguments, **more)


builtins.__import__ = import_elsewhere
multiprocessing.set_start_method("spawn", force=True)
multiprocessing.get_all_start_methods = lambda: ["spawn"]

if __name__ == "__main__":
    for is_next, command in groupby(sys.argv[1:], lambda argument: argument == "+"):
        if is_next:
            continue
        sys.argv = [*command]
        try:
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        except SystemExit as ending:
            if ending.code:
                raise
