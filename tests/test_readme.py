"""What the README shows works as it stands there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project in which the README's strategy is written to its file."""
    folder = tmp_path_factory.mktemp("checkout") / "bertexp"
    left_out = shutil.ignore_patterns(".*", "outputs", "__pycache__")
    shutil.copytree(ROOT, folder, ignore=left_out)
    example = re.search(r"```python\n# (lab.py)\n(.*?)```", README, re.DOTALL)
    assert example
    for path in (folder / example[1], folder / "bertexp" / "masking" / "pairs.py"):
        path.write_text(example[2], encoding="utf-8")
    return folder


def run(folder: Path, *arguments: str) -> str:
    package = folder if (folder / "bertexp").is_dir() else ROOT
    environment = os.environ | {"PYTHONPATH": str(package), "BERTEXP_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_strategy_passes_the_projects_own_checks(checkout: Path) -> None:
    run(checkout, "ruff", "check", "bertexp")
    run(checkout, "ruff", "format", "--check", "bertexp")
    # Strict of this module; the others, which take most of a minute, are checked by `make lint`.
    run(checkout, "mypy", "--follow-imports=skip", "-m", "bertexp.masking.pairs")


def test_the_strategy_is_tested_like_every_other(checkout: Path) -> None:
    found = run(checkout, "pytest", "-q", "-p", "no:cacheprovider", "tests/masking", "-k", "pairs")
    passed = re.search(r"(\d+) passed", found)
    assert passed and int(passed[1]) > 5


def test_the_strategy_masks_pairs_at_the_rate_that_was_set(checkout: Path, tmp_path: Path) -> None:
    options = ["dataset=synthetic", "tokenizer.vocab_size=256", "masking.strategy=pairs"]
    shutil.copy(checkout / "lab.py", tmp_path)
    found = run(tmp_path, "bertexp.inspect", "plugins=[lab.py]", *options)
    rate = re.search(r"realised rate +([\d.]+)% ± ([\d.]+)%", found)
    assert rate and abs(float(rate[1]) - 15) < 4 * float(rate[2])
    # Of independent tokens 0.18 follow each other: 1.18 on average.
    mean = re.search(r"([\d.]+) tokens on average", found)
    assert mean and float(mean[1]) > 2


def test_every_picture_is_made_by_the_command(tmp_path: Path) -> None:
    shown = {Path(name).stem for name in re.findall(r"\]\(\.assets/(\S+)\)", README)}
    script = ROOT / ".assets" / "pictures.py"
    refused = subprocess.run([sys.executable, script, "--only", "none"], capture_output=True)
    named = re.search(rb"is none of (.*)", refused.stderr)
    assert named and shown == set(named[1].decode().split(", "))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "BERTEXP_CACHE": str(tmp_path / "cache")}
    wanted = ["run", "hidden"]
    small = ["+size=smoke", "dataset=synthetic", "tokenizer.vocab_size=256"]
    options = ["--folder", tmp_path, "--only", ",".join(wanted), *small]
    subprocess.run([sys.executable, script, *options], env=environment, check=True, timeout=1800)
    for name in wanted:
        (picture,) = tmp_path.glob(f"{name}.*")
        assert picture.stat().st_size > 5000
    drawn = (tmp_path / "run.svg").read_text(encoding="utf-8")
    for row in ("corpus", "hardware", "100%", "eval/loss", "model"):
        assert row in drawn
    # Nothing of a progress bar's earlier states, and no control codes.
    assert drawn.count("tokens/s") == 1 and "\x1b" not in drawn
