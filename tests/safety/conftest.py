"""Attempts: whole commands in an empty folder, and what they leave there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from forkserver import ForkServer


@dataclass(frozen=True)
class Ended:
    """A command that has ended: its exit code, the lines it printed, what is in its folder."""

    code: int
    lines: list[str]
    left: list[str]


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared-cache")


@pytest.fixture(scope="session")
def attempt(
    tmp_path_factory: pytest.TempPathFactory,
    clean_environment: dict[str, str],
    shared_cache: Path,
    forkserver: ForkServer,
) -> Callable[..., Ended]:
    """Return a function that runs ``python -m bertexp`` in an empty folder of its own."""

    def run(
        *arguments: str, folder: Path | None = None, user: int | None = None, **environment: str
    ) -> Ended:
        folder = folder or tmp_path_factory.mktemp("attempt")
        process = forkserver.start(
            *("-m", "bertexp", *arguments),
            folder=folder,
            environment=clean_environment | {"BERTEXP_CACHE": str(shared_cache)} | environment,
            together=True,
            user=user,
        )
        code = process.end()
        left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
        return Ended(code, [line for line in process.output.splitlines() if line.strip()], left)

    return run
