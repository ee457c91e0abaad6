"""What the README and the documentation show works as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from bertexp.compare.__main__ import options_parser as compare_parser
from bertexp.config import conf_dir
from bertexp.inspect.__main__ import as_hydra_reads
from bertexp.predict.__main__ import options_parser as predict_parser

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow
PAGES = {
    path: path.read_text(encoding="utf-8")
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
}
EXTEND = PAGES[ROOT / "docs" / "howto" / "extend.md"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project in which the strategy of extend.md is written to its file."""
    folder = tmp_path_factory.mktemp("checkout") / "bertexp"
    left_out = shutil.ignore_patterns(".*", "outputs", "__pycache__")
    shutil.copytree(ROOT, folder, ignore=left_out)
    example = re.search(r"```python\n# (lab.py)\n(.*?)```", EXTEND, re.DOTALL)
    assert example
    for path in (folder / example[1], folder / "bertexp" / "masking" / "pairs.py"):
        path.write_text(example[2], encoding="utf-8")
    return folder


def run(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(folder), "BERTEXP_CACHE": str(folder / "cache")}
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


def test_the_strategy_masks_pairs_at_the_rate_that_was_set(
    checkout: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    options = ["dataset=synthetic", "tokenizer.vocab_size=256", "masking.strategy=pairs"]
    shutil.copy(checkout / "lab.py", tmp_path)
    found = command("plugins=[lab.py]", *options, module="bertexp.inspect", folder=tmp_path).output
    rate = re.search(r"realised rate +([\d.]+)% ± ([\d.]+)%", found)
    assert rate and abs(float(rate[1]) - 15) < 4 * float(rate[2])
    # Of independent tokens 0.18 follow each other: 1.18 on average.
    mean = re.search(r"([\d.]+) tokens on average", found)
    assert mean and float(mean[1]) > 2


def test_every_link_leads_to_a_file() -> None:
    """Those between pages; `make docs` checks their anchors too."""
    missing = [
        f"{path.relative_to(ROOT)}: {link}"
        for path, text in PAGES.items()
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
        if not link.startswith("http")
        and not (path.parent / link).exists()
        # These are made when the documentation is built.
        and Path(link).name not in ("configuration.md", "metrics.md")
    ]
    assert not missing


def test_every_command_is_understood() -> None:
    """Of an experiment and a sweep ``test_unread.py`` composes all jobs."""
    shown = {
        line
        for text in PAGES.values()
        for line in re.findall(r"python -m bertexp\.(\w+ [^`\n#]*)", text)
    }
    assert len(shown) > 20
    parsers = {"compare": compare_parser, "predict": predict_parser}
    for line in shown:
        command, *words = shlex.split(re.split(" [<>] ", line)[0])
        if command == "doctor":
            continue  # tests/test_doctor.py
        if command in parsers:
            parsers[command]().parse_args([word for word in words if word != "..."])
            continue
        settings = [word for word in words if re.match(r"[+\w./]+=(?!\.\.\.)", word)]
        if not any(word.startswith("plugins=") for word in settings):
            with initialize_config_dir(str(conf_dir()), version_base="1.3"):
                seedless = [word for word in settings if not word.startswith("seed=")]
                compose(command, [*map(as_hydra_reads, seedless)])


# What a command needs to be run here: a run, a sweep or files of one's own, and seconds.
OFFLINE = re.compile(
    r"bertexp\.(predict|doctor|compare) |bertexp\.doctor$|=RUN|/SWEEP|finetune RUN finetune\.train="
    r"|evaluate RUN evaluation\.mask_probs"
)
# Another network, project or corpus than the small one.
ELSEWHERE = re.compile(r"--workspace|eval/minimal_pairs|eval/probe/package|finetune=")


def test_commands_that_take_seconds_run_as_they_stand(command: Callable[..., Any]) -> None:
    small = ("+size=smoke", "dataset=synthetic", "tokenizer.vocab_size=256", "tracker=none")
    small += ("evaluation.probes=[]",)
    made = command("-m", *small, "masking.prob=0.15,0.4", "seed=0,1", "sweep=mask_rate")
    assert made.code == 0, made.output + made.errors
    folder, sweep = made.folder, "outputs/sweeps/mask_rate"
    rows = [f"a line of text number {n},{n % 2 == 0}" for n in range(8)]
    for name in ("train.csv", "dev.csv"):
        (folder / name).write_text("\n".join(["text,label", *rows]))
    (folder / "notes.txt").write_text(
        "\n\n\n".join(f"A note of a few words, {n}." for n in range(40))
    )

    blocks = (
        found
        for text in PAGES.values()
        for found in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    )
    lines = dict.fromkeys(
        line.partition("#")[0].strip() for block in blocks for line in block.splitlines()
    )
    wanted = [each for each in lines if OFFLINE.search(each) and not ELSEWHERE.search(each)]
    assert len(wanted) > 12
    # What the others have prepared.
    for line in sorted(wanted, key=lambda line: "--clear-cache" in line):
        given = line.replace("outputs/sweeps/SWEEP", sweep).replace("SWEEP", sweep)
        given = given.replace("RUN", f"{sweep}/masking.prob=0.15,seed=0")
        _, _, module, *words = shlex.split(given.partition(" > ")[0])
        done = command(*words, module=module, folder=folder)
        assert done.code == 0, f"{line}\n{done.output}{done.errors}"
        assert done.output.strip(), line
    assert (folder / "figure.pdf").stat().st_size > 5000


def test_every_target_of_make_exists() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for path, text in PAGES.items():
        for name in re.findall(r"(?:^|`)make ([a-z]+)(?=[\s`])", text, re.MULTILINE):
            assert name in targets, path


def test_every_picture_is_made_by_the_command(tmp_path: Path) -> None:
    shown = {
        Path(name).stem
        for text in PAGES.values()
        for name in re.findall(r"\]\([./]*(?:docs/)?pictures/(\S+)\)", text)
    }
    script = ROOT / "docs" / "pictures" / "make.py"
    refused = subprocess.run([sys.executable, script, "--only", "none"], capture_output=True)
    named = re.search(rb"is none of (.*)", refused.stderr)
    assert named and shown == set(named[1].decode().split(", "))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "BERTEXP_CACHE": str(tmp_path / "cache")}
    wanted = ["run", "hidden"]
    small = ["+size=smoke", "dataset=synthetic", "tokenizer.vocab_size=256", "tracker=none"]
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
