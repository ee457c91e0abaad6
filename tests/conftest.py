"""What the tests share: configurations from ``conf/``, commands that run apart, the real data."""

from __future__ import annotations

import copy
import functools
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from forkserver import ForkServer
from hydra import compose, initialize_config_dir
from hypothesis import settings

from bertexp.compare.runs import Record
from bertexp.config import Config, conf_dir, parse
from bertexp.finetune.config import FinetuneConfig, LabelledConfig

if TYPE_CHECKING:
    from bertexp.experiment.prepare import Data

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
# Of the developer's environment: nothing that changes what a command does.
SETTINGS = ("WANDB_", "TRACKIO_", "HYDRA_", "HF_", "BERTEXP_", "XDG_", "PYTHONHASHSEED")

# A corpus that is prepared in a moment.
SYNTHETIC = (
    *("dataset=synthetic", "dataset.synthetic.documents=60", "dataset.validation_fraction=0.2"),
    "evaluation.probes=[]",
    *("tokenizer.vocab_size=256", "evaluation.max_examples=24"),
)


# Of `make fast`: fewer examples where a test does not choose their number itself.
settings.register_profile("fast", max_examples=20, deadline=None)


@dataclass(frozen=True)
class Finished:
    """A command that has ended: its exit code, what it printed, and where it worked."""

    code: int
    output: str
    errors: str
    folder: Path
    cache: Path

    @property
    def lines(self) -> list[str]:
        """The lines of both streams that are not blank."""
        return [line for line in (self.output + self.errors).splitlines() if line.strip()]

    @property
    def left(self) -> list[str]:
        """What is in the folder."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))


@functools.cache
def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole commands are slow, and so is a browser; files with slow tests are begun first.

    Tests marked ``gpu`` are skipped where there is none.
    """
    slow = set()
    for item in items:
        if item.get_closest_marker("gpu") and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
        fixtures: set[str] = set(getattr(item, "fixturenames", ()))
        if fixtures & {"forkserver", "browser"} and not item.get_closest_marker("fast"):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("slow"):
            slow.add(item.path)
    # The quick ones at the end keep all processes busy up to it.
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Commands can be interrupted, also where ``nohup`` or a script's ``&`` started the tests."""
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def experiment_config() -> Callable[..., Config]:
    """Return a function that composes and checks overrides, as the command line does."""

    # A quarter of a second each time.
    @functools.cache
    def composed(*overrides: str) -> Config:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return parse(compose("config", overrides=list(overrides)))

    return lambda *overrides: copy.deepcopy(composed(*overrides))


@pytest.fixture(scope="session")
def labelled_config() -> Callable[..., LabelledConfig]:
    """Return a function that composes ``finetune.*``."""

    def configure(*overrides: str) -> LabelledConfig:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            composed = compose("finetune", overrides=["run=somewhere", *overrides])
        return parse(composed, FinetuneConfig).finetune

    return configure


@pytest.fixture(scope="session")
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with a home of its own, none of the user's settings, and no Hub."""
    home = tmp_path_factory.mktemp("home")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    return kept | {
        "HOME": str(home),
        "NETRC": str(home / "netrc"),
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "80",
        "TERM": "xterm",
    }


@pytest.fixture(scope="session")
def forkserver(
    tmp_path_factory: pytest.TempPathFactory, clean_environment: dict[str, str]
) -> Iterator[ForkServer]:
    """What starts processes that take no seconds to load."""
    server = ForkServer(clean_environment, tmp_path_factory.mktemp("printed"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def command(
    tmp_path_factory: pytest.TempPathFactory,
    clean_environment: dict[str, str],
    forkserver: ForkServer,
) -> Callable[..., Finished]:
    """Return a function that runs ``python -m bertexp`` in a folder and with a cache of its own.

    ``module`` is run instead of ``bertexp``; ``stdin`` is what it reads. With ``cold`` it is an
    interpreter that has loaded nothing, which takes seconds; ``python`` are its own options.
    ``user`` is whose rights it has.
    """

    def run(
        *arguments: str,
        module: str = "bertexp",
        folder: Path | None = None,
        cold: bool = False,
        python: tuple[str, ...] = (),
        stdin: str = "",
        timeout: float = 600,
        user: int | None = None,
        **environment: str,
    ) -> Finished:
        folder = folder or tmp_path_factory.mktemp("work")
        cache = folder / "cache"
        options = ("-m", module, *arguments)
        full = clean_environment | {"BERTEXP_CACHE": str(cache)} | environment
        if not (cold or python):
            process = forkserver.start(
                *options, folder=folder, environment=full, stdin=stdin, user=user
            )
            code = process.end(timeout)
            return Finished(code, process.output, process.errors, folder, cache)
        done = subprocess.run(
            [sys.executable, *python, *options],
            cwd=folder,
            env=full,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        return Finished(done.returncode, done.stdout, done.stderr, folder, cache)

    return run


@pytest.fixture(scope="session")
def leet() -> Callable[..., str]:
    """Return a function that has W&B's own reader print what is in an offline run's file."""
    found = importlib.util.find_spec("wandb")
    assert found and found.submodule_search_locations
    # What `wandb leet` starts; loading W&B for it takes most of a second.
    reader = Path(found.submodule_search_locations[0]) / "bin" / "wandb-core"

    def read(file: Path, *options: str) -> str:
        command = [reader, "leet", "inspect", "--json", *options]
        command += ["--run-file", file, file.parents[1]]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    return read


@pytest.fixture(scope="session")
def trained(command: Callable[..., Finished]) -> Callable[[str], Path]:
    """Return a function that trains a tiny model for a task; returns the run's folder.

    It has checkpoints of steps 6 and 12, and its cache is beside it.
    """

    @functools.cache
    def train(task: str) -> Path:
        scored = ["evaluation.pseudo_perplexity=4"] if "mlm" in task else []
        done = command(
            *(*SYNTHETIC, f"task={task}", "task.max_length=64", "tracker=none", *scored),
            *("trainer.max_steps=12", "trainer.save_every=6", "trainer.keep_checkpoints=3"),
            *("model.hidden_size=32", "hydra.run.dir=run"),
        )
        assert done.code == 0, done.lines
        return done.folder / "run"

    return train


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser, for all tests that need one."""
    from browser import Browser

    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.skip("needs Chromium (Debian's package `chromium`)")
    browser = Browser(executable, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Record]:
    """Return a function that makes up a run as the comparison would read it from disk."""

    def make(
        losses: Sequence[float | None] = (2.0,),
        *,
        every: int = 10,
        seed: int | None = 0,
        status: str = "finished",
        tokens_per_step: float = 100.0,
        metric: str = "eval/loss",
        written: float = 0.0,
        fingerprints: dict[str, Any] | None = None,
        versions: dict[str, str] | None = None,
        folder: str | None = None,
        **config: Any,
    ) -> Record:
        values = {key.replace("__", "."): value for key, value in config.items()}
        steps = range(every, every * len(losses) + 1, every)
        history = [
            {"step": step, "train/tokens": step * tokens_per_step, metric: loss}
            for step, loss in zip(steps, losses, strict=True)
        ]
        summary: dict[str, Any] = {
            "status": status,
            "tracker_id": f"mlm-s{seed}-0123abcd",
            "fingerprints": fingerprints or {"corpus": "c", "tokenizer": "t", "bank": {"mlm": "b"}},
            "versions": versions or {"git_commit": "0" * 40},
        }
        if status == "finished" and losses:
            summary["metrics"] = {metric: losses[-1]}
            summary["budget"] = {"step": steps[-1], "tokens": steps[-1] * tokens_per_step}
        name = folder or ",".join(f"{key}={value}" for key, value in values.items())
        full = {"seed": seed, "task.max_length": 128, **values}
        return Record(Path(f"{name},seed={seed}"), full, summary, history, status, None, written)

    return make


@pytest.fixture
def empty_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that nothing has been prepared in yet."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("BERTEXP_CACHE", str(folder))
    return folder


def real(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"needs the real data in {DATA}, which are not part of the project")
    return path


@pytest.fixture(scope="session")
def real_text() -> Path:
    """WikiText-2's test split, raw."""
    return real("wiki.test.raw")


@pytest.fixture(scope="session")
def real_vocabulary() -> Path:
    """The vocabulary of ``bert-base-uncased``."""
    return real("bert-base-uncased-vocab.txt")


@pytest.fixture(scope="session")
def prepared(
    experiment_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Data]:
    """Return a function that prepares a small corpus of the made-up language."""
    from bertexp.experiment.prepare import prepare_data

    cache = tmp_path_factory.mktemp("prepared")

    @functools.cache
    def prepare(*overrides: str) -> Data:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BERTEXP_CACHE", str(cache))
            small = (*SYNTHETIC, "evaluation.pseudo_perplexity=2", "hardware.precision=fp32")
            return prepare_data(experiment_config(*small, *overrides))

    return prepare


@pytest.fixture(scope="session")
def small_model(
    experiment_config: Callable[..., Config], prepared: Callable[..., Data]
) -> Callable[..., Any]:
    """Return a function that builds a model of a few thousand parameters, without dropout."""
    from bertexp.families.build import build_model

    def build(kind: str | frozenset[str], *overrides: str, seed: int = 0) -> Any:
        sizes = ("model.hidden_size=32", "model.intermediate_size=64", "model.dropout=0")
        config = experiment_config(*sizes, *overrides)
        tokenizer = prepared().tokenizer
        heads = heads_of(kind) if isinstance(kind, str) else kind
        return build_model(
            config.family, config.model, heads, tokenizer, config.task.max_length, seed
        )

    return build


@pytest.fixture(scope="session")
def cut_words(prepared: Callable[..., Data]) -> Callable[..., Data]:
    """Return a function that prepares a corpus with a vocabulary too small for its words."""
    return functools.partial(prepared, "tokenizer.vocab_size=96")


@pytest.fixture(scope="session")
def untrained(experiment_config: Callable[..., Config]) -> Callable[..., Any]:
    """Return a function that builds a model whose answers are spread out, with dropout."""
    from bertexp.families.build import build_model

    def build(data: Data, model_class: str | None = None) -> Any:
        config = experiment_config(
            *("model.hidden_size=32", "model.intermediate_size=64", "model.dropout=0.5"),
            "model.initializer_range=0.5",
        )
        heads = heads_of(model_class) if model_class else data.task.heads
        return build_model(config.family, config.model, heads, data.tokenizer, 128, 0)

    return build


def heads_of(model_class: str) -> frozenset[str]:
    """Return the heads that a model of ``transformers`` has."""
    from bertexp.families.bert import Bert

    return next(heads for heads, name in Bert.classes().items() if name == model_class)
