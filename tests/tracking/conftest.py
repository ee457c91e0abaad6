"""Scripts that run apart: W&B reads its settings once for each process, and none of the user's."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from door import Door

REPOSITORY = Path(__file__).parents[2]

Script = Callable[..., "Ran"]


@dataclass(frozen=True)
class Ran:
    """What a script said."""

    stdout: str
    stderr: str


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment without the user's keys, settings and proxies, and a home of its own."""
    home = tmp_path / "home"
    home.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "TRACKIO_"))}
    return kept | {
        "HOME": str(home),
        "NETRC": str(home / "netrc"),
        "WANDB_CONFIG_DIR": str(home / "config"),
        "WANDB_CACHE_DIR": str(home / "cache"),
        "WANDB_DATA_DIR": str(home / "data"),
        "PYTHONPATH": str(REPOSITORY),
        "COLUMNS": "80",
        "TERM": "xterm",
    }


@pytest.fixture
def script(tmp_path: Path, environment: dict[str, str], door: Door) -> Script:
    """Runs Python code in ``tmp_path`` with nothing to type at, and returns what it printed."""

    def run(code: str, **extra: str) -> Ran:
        asked = ("-c", textwrap.dedent(code))
        process = door.start(*asked, folder=tmp_path, environment=environment | extra)
        assert process.end() == 0, process.errors
        return Ran(process.output, process.errors)

    return run


@pytest.fixture
def on_a_terminal(tmp_path: Path, environment: dict[str, str]) -> Callable[..., str]:
    """Runs Python code on a pseudo-terminal of its own and returns all it showed."""

    def run(code: str, interrupt: bool = False) -> str:
        """Run the code; ``interrupt``: press Ctrl-C when it says 'ready'."""
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
            except OSError:  # Linux says so when the other side has closed
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
