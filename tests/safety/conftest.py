"""A warm door: whole commands that take no seconds to load."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

# No service of the Hub answers there, whatever the network is.
NO_HUB = {"HF_ENDPOINT": "http://127.0.0.1:9"}


@dataclass(frozen=True)
class Ended:
    """A command that has ended: its exit code, the lines it said, what lies in its folder."""

    code: int
    said: list[str]
    left: list[str]


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared-cache")


@pytest.fixture(scope="session")
def door(
    tmp_path_factory: pytest.TempPathFactory,
    clean_environment: dict[str, str],
    shared_cache: Path,
) -> Iterator[Callable[..., Ended]]:
    """Yield a function that runs ``python -m bertexp`` in an empty folder of its own."""
    data_sets = tmp_path_factory.mktemp("data-sets")
    server = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("door.py")],
        env=clean_environment
        | NO_HUB
        | {"BERTEXP_CACHE": str(shared_cache), "HF_DATASETS_CACHE": str(data_sets)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"

    def run(
        *arguments: str, folder: Path | None = None, user: int | None = None, **environment: str
    ) -> Ended:
        assert server.stdin is not None
        assert server.stdout is not None
        place = tmp_path_factory.mktemp("call")
        folder = folder or place / "work"
        folder.mkdir(exist_ok=True)
        said = place / "said"
        call = {
            "arguments": arguments,
            "folder": str(folder),
            "said": str(said),
            "environment": environment,
            "user": user,
        }
        server.stdin.write(json.dumps(call) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        text = said.read_text(errors="replace")
        left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
        return Ended(code, [line for line in text.splitlines() if line.strip()], left)

    yield run
    server.stdin.close()
    server.wait(timeout=60)
