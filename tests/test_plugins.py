"""Parts of a user's own, one file each outside of the package: known in every command."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from safetensors.numpy import load_file

from bertexp import plugins
from bertexp.masking import STRATEGIES
from bertexp.validation import UserError

pytestmark = pytest.mark.slow

Run = Callable[..., Any]
FILES = Path(__file__).parent / "plugins"
PLUGINS = "plugins=[stride_lab.py,counting_lab.py,cone_lab.py,name_lab.py,albert_lab.py,rtd_lab.py]"
SMALL = (
    *("dataset=counting", "dataset.counting.documents=300", "tokenizer.vocab_size=128"),
    *("model.hidden_size=32", "model.intermediate_size=32", "task.max_length=32"),
    *("evaluation.probes=[name]", "evaluation.probe_examples=100", "evaluation.max_examples=16"),
    *("evaluation.evaluators=[probes,cone]", "evaluation.cone.words=50", "hardware=cpu"),
)
TRAINED = (
    *(PLUGINS, *SMALL, "masking=stride", "family=albert", "trainer.max_steps=8"),
    *("task=rtd_lab", "task.objectives=[mlm,rtd_lab]", "task.weights={rtd_lab:0.5}"),
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside of the package with the user's own files."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(FILES, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {"BERTEXP_CACHE": str(tmp_path_factory.mktemp("cache"))}


@pytest.fixture(scope="module")
def run(command: Run, lab: Path, cache: dict[str, str]) -> Run:
    """Return a function that runs a command in the lab's folder, or elsewhere, without mistakes."""

    def start(*arguments: str, folder: Path = lab, **options: Any) -> Any:
        done = command(*arguments, folder=folder, **cache, **options)
        assert done.code == 0, done.lines
        return done

    return start


@pytest.fixture(scope="module")
def trained(run: Run, lab: Path) -> Path:
    """A run that is trained with all of them, tracked by W&B offline."""
    run(*TRAINED, "masking.stride.step=4", "tracker.mode=offline", "hydra.run.dir=trained")
    return lab / "trained"


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


def test_a_run_uses_them_and_records_them(trained: Path, lab: Path, leet: Run) -> None:
    found = summary(trained)
    assert 0 < found["metrics"]["eval/cone"] < 180
    assert 0 <= found["metrics"]["eval/probe/name"] <= 1
    assert {"eval/loss", "eval/rtd_lab_loss"} <= found["metrics"].keys()
    config: Any = OmegaConf.load(trained / ".hydra" / "config.yaml")
    assert list(config.plugins) == PLUGINS.removeprefix("plugins=[").rstrip("]").split(",")
    assert (config.masking.stride.step, config.dataset.counting.documents) == (4, 300)
    assert json.loads((trained / "model" / "config.json").read_text())["model_type"] == "albert"
    # What the objective trains beside the model is counted too.
    last = max((trained / "checkpoints").glob("step-*"), key=lambda path: int(path.name[5:]))
    files = ("model.safetensors", "objectives.safetensors")
    count = sum(w.size for file in files for w in load_file(last / file).values())
    assert f" {count:,} parameters" in " ".join((trained / "bertexp.log").read_text().split())
    row = found["metric_rows"]["eval/cone"]
    assert (row["lower_is_better"], row["unit"]) == (True, "degrees")
    (tracked,) = (lab / "outputs" / "wandb").glob("offline-run-*/*.wandb")
    assert '"eval/cone"' in leet(tracked, "--summary")


def test_a_killed_run_is_resumed_from_elsewhere(
    run: Run,
    lab: Path,
    cache: dict[str, str],
    forkserver: Any,
    clean_environment: dict[str, str],
    tmp_path: Path,
) -> None:
    arguments = (*TRAINED, "trainer.max_steps=100000", "trainer.save_every=4", "tracker=none")
    process = forkserver.start(
        *("-m", "bertexp", *arguments, "hydra.run.dir=killed"),
        folder=lab,
        environment=clean_environment | cache,
    )
    process.until(lambda: (lab / "killed" / "checkpoints" / "step-8").is_dir())
    os.kill(process.pid, 9)
    process.end()
    names = [path.name for path in (lab / "killed" / "checkpoints").glob("step-*")]
    stopped = max(int(number) for name in names if (number := name[5:]).isdigit())
    more = f"trainer.max_steps={stopped + 4}"
    options = (f"trainer.resume={lab / 'killed'}", more, "trainer.resume_force=true")
    done = run(*options, folder=tmp_path)
    assert summary(lab / "killed")["status"] == "finished", done.lines
    assert "eval/cone" in summary(lab / "killed")["metrics"]


def test_saved_runs_bring_their_plugins(trained: Path, run: Run, tmp_path: Path) -> None:
    again = run(str(trained), module="bertexp.evaluate", folder=tmp_path)
    assert "eval/cone" in again.output
    found = json.loads((trained / "evaluations" / "model.json").read_text())
    assert found["metrics"] == pytest.approx(summary(trained)["metrics"], abs=1e-6)
    changed = run(
        *(str(trained), "evaluation.cone.words=20", "save=few"),
        module="bertexp.evaluate",
        folder=tmp_path,
    )
    few = json.loads((trained / "evaluations" / "few.json").read_text())
    assert few["metrics"]["eval/cone"] != found["metrics"]["eval/cone"], changed.lines
    run(str(trained), "Ada counts from [MASK] to ten.", module="bertexp.predict", folder=tmp_path)
    tokens = run("what=tokens", f"run={trained}", module="bertexp.inspect", folder=tmp_path)
    assert tokens.lines


def test_a_look_at_the_masks(run: Run) -> None:
    shown = run(PLUGINS, *SMALL[:5], "masking=stride", module="bertexp.inspect")
    # Three neighbours at a time, of which some lie next to each other.
    mean = re.search(r"([\d.]+) tokens on average", shown.output)
    assert mean and float(mean[1]) > 2.5


def test_a_sweep_compares_by_their_keys_and_metrics(run: Run, lab: Path) -> None:
    run(
        *(*TRAINED, "-m", "masking.stride.step=2,4", "sweep=strides"),
        *("tracker=none", "hydra/launcher=basic"),
    )
    folder = lab / "outputs" / "sweeps" / "strides"
    run(str(folder), "--metric", "eval/cone", module="bertexp.compare")
    found = (folder / "compare.json").read_text()
    assert "masking.stride.step" in found
    # It is compared where its code is not there any more, too.
    moved = shutil.copytree(folder, lab.parent / "moved-strides")
    for record in moved.glob("*/.hydra/*.yaml"):
        record.write_text(record.read_text().replace("_lab.py", "_lost.py"))
    done = run(str(moved), "--metric", "eval/cone", module="bertexp.compare", folder=lab.parent)
    assert "eval/cone" in done.output


def test_workers_that_are_started_anew_know_them(run: Run, lab: Path) -> None:
    (lab / "anew.py").write_text(
        "import multiprocessing\n"
        "from bertexp.cli import main\n"
        "if __name__ == '__main__':\n"
        "    multiprocessing.set_start_method('spawn')\n"
        "    main()\n"
    )
    workers = ("hardware.num_workers=1", "tracker=none", "hydra.run.dir=anew", *TRAINED)
    run(*workers, module="anew", cold=True)
    assert summary(lab / "anew")["status"] == "finished"


MISTAKES = {
    "masking.stride.stpe=2": r"masking\.stride\.stpe: no such key\. Did you mean .*stride\.step'\?",
    "masking.stride.step=0": r"masking\.stride\.step=0: must be at least 1\.",
    "masking.stride.step=two": r"masking\.stride\.step=two: must be an integer\.",
    "masking.stride.step=2": r"masking\.stride\.step is read by masking\.strategy=stride only",
    "task.rtd_lab.generater=1": r"task\.rtd_lab\.generater: no such key\..*generator'\?",
    "task.rtd_lab.generator=2": r"task\.rtd_lab\.generator=2\.0: must be above 0",
    "task.rtd_lab.weight=9": r"task\.rtd_lab\.weight is read by task=rtd_lab only",
    "family=alberta": r"family=alberta: must be one of .*Did you mean 'albert'\?",
    "dataset.counting.documets=3": r"dataset\.counting\.documets: no such key\..*documents'\?",
    "masking=stridr": r"masking=stridr: must be one of .*stride.* Did you mean 'stride'\?",
    "evaluation.evaluators=[cones]": r"evaluation\.evaluators=cones: must be one of .*'cone'\?",
    "evaluation.probes=[names]": r"evaluation\.probes=names: must be one of .*'name'\?",
    "plugins=[broken.py]": r"plugins: broken\.py, line 2: .*ZeroDivisionError",
    "plugins=[lost.py]": r"plugins: lost\.py: there is no such file",
    "plugins=[no.such.module]": r"plugins: no\.such\.module: .*ModuleNotFoundError",
    "plugins=[json.py]": r"plugins: json\.py: another module has its name .*; rename the file",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(command: Run, lab: Path, mistake: str) -> None:
    (lab / "broken.py").write_text("import math\nmath.pi / 0\n")
    (lab / "json.py").write_text("")
    done = command(PLUGINS, mistake, "tracker=none", folder=lab)
    assert (done.code, len(done.lines)) == (1, 1), done.lines
    assert re.match(f"error: {MISTAKES[mistake]}", done.lines[0]), done.lines


LAB = """
from functools import partial
from bertexp.masking import STRATEGIES
from bertexp.masking.strategies import Strategy

@STRATEGIES.register("edited")
class Edited(Strategy):
    version = {version}

STRATEGIES.register("in_part")(partial(Edited))
{end}
"""


def test_an_edited_file_is_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    for folder in ("here", "elsewhere"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def load(version: int, end: str = "") -> int:
        Path("edited_lab.py").write_text(LAB.format(version=version, end=end))
        plugins.load(["edited_lab.py"])
        found: Any = STRATEGIES["edited"]
        return int(found.version)

    try:
        assert load(1) == 1
        assert load(2) == 2, "of the same second and size"
        assert load(22) == 22
        kept = STRATEGIES["edited"]
        assert load(22) == 22 and STRATEGIES["edited"] is kept
        with pytest.raises(UserError, match=r"line 11: cannot be imported \(ZeroDivisionError"):
            load(333, "1 / 0")
        assert not STRATEGIES.has("edited") and not STRATEGIES.has("in_part")
        assert load(22) == 22
        # Another file of this name is not taken for it.
        monkeypatch.chdir(tmp_path / "elsewhere")
        with pytest.raises(UserError, match="another module has its name"):
            load(4)
    finally:
        STRATEGIES.forget("edited_lab")


KEYS = """
from dataclasses import dataclass
from bertexp.masking import STRATEGIES
from bertexp.masking.strategies import Strategy

@dataclass
class Keys:
    size: int{default}

@STRATEGIES.register("{name}", keys=Keys)
class Refused(Strategy):
    pass
"""


@pytest.mark.parametrize(
    ("name", "default", "reason"),
    [
        ("sizes", "", "cannot be imported (TypeError: Keys.__init__() missing 1 required"),
        ("span", " = 2", "masking.strategy: 'span' is registered twice."),
    ],
)
def test_a_file_that_is_refused_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, default: str, reason: str
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    own = dict(STRATEGIES.own)
    path = tmp_path / f"refused_{name}.py"
    path.write_text(KEYS.format(name=name, default=default))
    with pytest.raises(UserError, match=re.escape(reason)):
        plugins.load([str(path)])
    assert STRATEGIES.own == own and STRATEGIES.has(name) == (name == "span")


def test_a_cell_that_runs_again_replaces_its_part() -> None:
    names: dict[str, Any] = {"__name__": "a_notebook"}
    try:
        for version in (1, 2):
            exec(LAB.format(version=version, end=""), names)
            found: Any = STRATEGIES["edited"]
            assert found.version == version
    finally:
        STRATEGIES.forget("a_notebook")


def test_help_explains_them(run: Run) -> None:
    done = run("--help", "masking", PLUGINS)
    assert re.search(r"^masking=stride +Three neighbouring tokens", done.output, re.MULTILINE)
    assert "# How many tokens are predicted together.\n    step: 2\n" in done.output


INSTALLED = """
import sys
sys.path.append(sys.argv.pop(1))
from bertexp.cli import main
main()
"""


def test_an_installed_package_brings_its_parts(
    forkserver: Any, clean_environment: dict[str, str], cache: dict[str, str], tmp_path: Path
) -> None:
    site = tmp_path / "site"
    info = site / "stride_lab-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copytree(FILES / "conf" / "masking", site / "conf" / "masking")
    shutil.copy(FILES / "stride_lab.py", site)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stride-lab\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bertexp.plugins]\nstride = stride_lab\n")
    options = ("dataset=synthetic", "+size=smoke", "trainer.max_steps=1", "evaluation.every=null")
    process = forkserver.start(
        *("-c", INSTALLED, str(site), *options),
        *("masking=stride", "tracker=none", "hydra.run.dir=run"),
        folder=tmp_path,
        environment=clean_environment | cache,
    )
    assert process.end() == 0, process.output + process.errors
    config: Any = OmegaConf.load(tmp_path / "run" / ".hydra" / "config.yaml")
    assert list(config.plugins) == ["stride_lab"]
    assert sys.modules.get("stride_lab") is None
