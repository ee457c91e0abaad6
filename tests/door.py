"""Processes that take no seconds to load: ``python`` by a server that forks, see its file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Door:
    """Starts ``python`` with arguments, as ``subprocess`` would.

    Args:
        environment: of the server; what the libraries read once, when they are loaded.
        files: a folder for what the processes say.
    """

    def __init__(self, environment: dict[str, str], files: Path) -> None:
        self._files, self._calls = files, 0
        self._server = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("door_server.py")],
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
        user: int | None = None,
    ) -> Process:
        """Start a process, and do not wait for it.

        Args:
            arguments: ``-m`` and a module or ``-c`` and code, then the program's own.
            folder: where it works.
            environment: all of it.
            stdin: what it reads.
            together: whether both of its streams are one, the first.
            user: whose rights it has.
        """
        self._calls += 1
        names = [self._files / f"{self._calls}.{name}" for name in ("in", "out", "err")]
        names[0].write_text(stdin, encoding="utf-8", errors="surrogateescape")
        for name in names[1:]:
            name.touch()
            name.chmod(0o666)
        pid = self.ask(
            arguments=arguments,
            folder=str(folder),
            environment=environment,
            user=user,
            stdin=str(names[0]),
            stdout=str(names[1]),
            stderr=str(names[1] if together else names[2]),
        )
        return Process(self, pid, names[1], names[2])

    def ask(self, **request: Any) -> Any:
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
        self._server.wait(timeout=60)


class Process:
    """A process that a door has started, and what it has said so far."""

    def __init__(self, door: Door, pid: int, output: Path, errors: Path) -> None:
        self.pid = pid
        self._door, self._output, self._errors = door, output, errors
        self._code: int | None = None

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    @property
    def errors(self) -> str:
        return self._errors.read_text(errors="replace")

    def code(self, seconds: float = 0) -> int | None:
        """Return the exit code, waiting for it so long; None while the process is at work."""
        if self._code is None:
            self._code = self._door.ask(pid=self.pid, seconds=seconds)
        return self._code

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something while the process is at work."""
        while not condition():
            assert self.code() is None, self.output + self.errors
            time.sleep(0.001)

    def end(self, seconds: float = 600) -> int:
        """Return the exit code; a process that takes longer is killed."""
        code = self.code(seconds)
        if code is None:
            os.kill(self.pid, 9)
            raise TimeoutError(f"after {seconds} seconds: {self.output}{self.errors}")
        return code
