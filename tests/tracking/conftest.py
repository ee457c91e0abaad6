"""Scripts that run apart, as W&B reads its settings once a process; what W&B then finds."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from forkserver import ForkServer


@dataclass(frozen=True)
class Tracked:
    """What W&B's reader finds in the file of an offline run."""

    file: Path
    records: dict[str, list[dict[str, Any]]]
    totals: dict[str, Any]

    @property
    def run(self) -> dict[str, Any]:
        return self.records["run"][0]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What was logged, a dictionary each time."""
        return [record["item"] for record in self.records["history"]]

    def table(self, name: str) -> dict[str, Any]:
        """Return columns and data of a table in the summary."""
        path = self.file.parent / "files" / self.totals["summary"][name]["path"]
        return json.loads(path.read_text())


@pytest.fixture(scope="session")
def tracked(leet: Callable[..., str]) -> Callable[..., list[Tracked]]:
    """Return a function that reads the offline runs of a folder."""

    def read(file: Path) -> Tracked:
        records: dict[str, list[dict[str, Any]]] = {}
        for line in leet(file).splitlines():
            record = json.loads(line)
            records.setdefault(record["type"], []).append(record[record["type"]])
        return Tracked(file, records, json.loads(leet(file, "--summary")))

    def read_all(folder: Path, root: str = "outputs") -> list[Tracked]:
        files = sorted((folder / root / "wandb").glob("offline-run-*/*.wandb"))
        return [read(file) for file in files]

    return read_all


@pytest.fixture
def environment(tmp_path: Path, clean_environment: dict[str, str]) -> dict[str, str]:
    """An environment with a home of its own, where W&B keeps its files too."""
    home = tmp_path / "home"
    home.mkdir()
    places = {f"WANDB_{name}_DIR": str(home / name) for name in ("CONFIG", "CACHE", "DATA")}
    return clean_environment | {"HOME": str(home), "NETRC": str(home / "netrc")} | places


@pytest.fixture
def script(
    tmp_path: Path, environment: dict[str, str], forkserver: ForkServer
) -> Callable[..., tuple[str, str]]:
    """Runs Python code in ``tmp_path`` with nothing to type at; returns output and errors."""

    def run(code: str, **extra: str) -> tuple[str, str]:
        arguments = ("-c", textwrap.dedent(code))
        process = forkserver.start(*arguments, folder=tmp_path, environment=environment | extra)
        assert process.end() == 0, process.errors
        return process.output, process.errors

    return run


@pytest.fixture
def on_a_terminal(tmp_path: Path, environment: dict[str, str]) -> Callable[..., str]:
    """Runs Python code on a pseudo-terminal of its own and returns all it showed."""

    def run(code: str, interrupt: bool = False) -> str:
        """Run the code; ``interrupt``: press Ctrl-C when it prints 'ready'."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # Linux's answer when the other side has closed
                piece = b""
            if not piece:
                break
            shown += piece
            if interrupt and b"ready" in shown:
                process.send_signal(signal.SIGINT)
                interrupt = False
        os.close(ours)
        process.wait(timeout=30)
        return shown.decode()

    return run
