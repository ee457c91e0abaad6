"""``summary.json``: what a run was, what it spent and what came of it."""

from __future__ import annotations

import json
import math
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from bertexp.files import write_text

SUMMARY_FILE = "summary.json"
PACKAGES = (
    "bertexp",
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "accelerate",
    "hydra-core",
    "wandb",
)


def write_summary(folder: Path, values: Mapping[str, object]) -> None:
    """Write ``values`` over what the run's summary holds, all or nothing.

    Keys that ``values`` does not name keep what was written before.
    """
    merged = _finite({**read_summary(folder), **values})
    text = json.dumps(merged, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(folder / SUMMARY_FILE, text + "\n")


def read_summary(folder: Path) -> dict[str, Any]:
    """Return what the run's summary holds; nothing where there is none."""
    path = folder / SUMMARY_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _finite(value: object) -> object:
    """Return ``value`` with null for what JSON has no word for: NaN and infinity."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def versions() -> dict[str, str | None]:
    """Return the versions of Python, of the packages that matter and of this code's commit."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found | {"git_commit": _git_commit()}


def _git_commit() -> str | None:
    """Return the commit of the checkout this code runs from, ``+`` added if it was changed."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        tracked = git("ls-files", "--", Path(__file__).name)
        if not tracked:
            return None
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
