"""The package as a wheel: it runs from any folder, with its configuration inside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow
TINY = [
    "dataset=synthetic",
    "dataset.synthetic.documents=40",
    "tokenizer.vocab_size=512",
    "trainer.max_steps=3",
    "evaluation.probes=[]",
    "evaluation.max_examples=4",
    "tracker=none",
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of a clean environment that has the wheel and sees its dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", folder, ROOT], check=True)
    venv.create(folder / "env")
    python = folder / "env/bin/python"
    (wheel,) = folder.glob("*.whl")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps"]
    subprocess.run([*install, wheel], check=True)
    (site,) = (folder / "env/lib").glob("python*/site-packages")
    # A path in a .pth file is searched last, and the checkout's own .pth in it is not read.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    return python


def test_runs_from_any_folder(installed: Path, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"BERTEXP_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    where = subprocess.run(
        [installed, "-c", "import bertexp.config as c; print(c.conf_dir())"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert str(installed.parents[1]) in where
    subprocess.run([installed.parent / "bertexp", *TINY], cwd=tmp_path, env=environment, check=True)
    (summary,) = (tmp_path / "outputs").glob("*/*/summary.json")
    assert json.loads(summary.read_text())["status"] == "finished"
    command = [installed, "-m", "bertexp", "--help"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)


def test_holds_what_the_page_is_made_of(installed: Path, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from bertexp.compare.page import write_page;"
        "from bertexp.compare.results import Results;"
        "nothing = Results('eval/loss', True, 'steps', None, (), None, True, (), (), (), ());"
        "print(write_page(nothing, Path('.')).stat().st_size)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [installed, "-c", code], cwd=tmp_path, env=environment, capture_output=True, check=True
    )
    assert int(done.stdout) > 10_000
