"""What the tests of several processes share: a place for small runs that are not repeated."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from folders import rows, summary
from forkserver import ForkServer, Process

SMALL = (
    *("dataset=synthetic", "dataset.synthetic.documents=60", "tokenizer.vocab_size=256"),
    *("model.hidden_size=16", "model.intermediate_size=16", "hardware=cpu", "tracker=none"),
    *("trainer.epochs=null", "trainer.max_steps=20", "trainer.log_every=1", "trainer.batch_size=5"),
    *("trainer.save_every=8", "trainer.keep_checkpoints=9", "evaluation.every=10"),
    *("evaluation.max_examples=16", "evaluation.pseudo_perplexity=2", "evaluation.probes=[]"),
    "hardware.precision=fp32",
)


@dataclass(frozen=True)
class Place:
    """Where runs lie, with one cache, and what starts them."""

    folder: Path
    command: Callable[..., Any]
    forkserver: ForkServer
    environment: dict[str, str]
    small: tuple[str, ...] = SMALL

    def run(self, name: str, *overrides: str) -> Any:
        """Run a small experiment in the folder ``name`` and wait for it."""
        return self.command(*SMALL, *overrides, f"hydra.run.dir={name}", folder=self.folder)

    def start(self, *command: str, **environment: str) -> Process:
        """Start Python in a session of its own and do not wait for it."""
        cache = {"BERTEXP_CACHE": str(self.folder / "cache")}
        return self.forkserver.start(
            *command,
            folder=self.folder,
            environment=self.environment | cache | environment,
            together=True,
            session=True,
        )

    def resume(self, name: str, copy: str, *overrides: str) -> None:
        """Resume a copy of a run as if it had been killed after step 16."""
        run = self.folder / copy
        shutil.copytree(self.folder / name, run)
        for later in ("checkpoints/step-20", "model"):
            shutil.rmtree(run / later)
        (run / "summary.json").write_text(json.dumps(summary(run) | {"status": "running"}))
        done = self.command(f"trainer.resume={copy}", *overrides, folder=self.folder)
        assert done.code == 0, done.lines
        assert f"{copy}/checkpoints/step-16" in done.errors

    def summary(self, name: str) -> dict[str, Any]:
        """Return a run's summary."""
        return summary(self.folder / name)

    def config(self, name: str) -> dict[str, Any]:
        """Return the configuration that a run has recorded."""
        return yaml.safe_load((self.folder / name / ".hydra" / "config.yaml").read_text())

    def lines(self, name: str) -> list[dict[str, float]]:
        """Return what a run has logged."""
        return rows(self.folder / name)

    def until(self, name: str, count: int, process: Process) -> None:
        """Wait until a run has logged so many lines."""
        process.until(lambda: len(self.lines(name)) >= count)


@pytest.fixture(scope="session")
def place(
    command: Callable[..., Any],
    forkserver: ForkServer,
    clean_environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Place:
    folder = tmp_path_factory.mktemp("processes")
    return Place(folder, command, forkserver, clean_environment)


@pytest.fixture(scope="session")
def trained(place: Place) -> Callable[[str, int], str]:
    """Return a function that trains for a task in one process, with accumulation."""

    @functools.cache
    def train(task: str, accumulation: int) -> str:
        name = f"{task}-{accumulation}"
        done = place.run(
            name, f"task={task}", f"trainer.gradient_accumulation_steps={accumulation}"
        )
        assert done.code == 0, done.lines
        return name

    return train


@pytest.fixture(scope="session")
def in_two(place: Place) -> dict[str, str]:
    """Runs of two processes each, by task: the jobs of a sweep, one after the other.

    That of ``mlm`` is sharded.
    """
    settings = {
        "task": "mlm_nsp,mlm",
        "trainer.gradient_accumulation_steps": "3,2",
        "hardware.sharded": "false,true",
    }
    done = place.command(
        *("-m", *SMALL, "sweep=two", "hardware.num_processes=2"),
        *(f"{key}={values}" for key, values in settings.items()),
        f"hydra.sweeper.together=[{','.join(settings)}]",
        folder=place.folder,
    )
    assert done.code == 0, done.lines
    assert "Traceback" not in done.errors
    jobs = (place.folder / "outputs" / "sweeps" / "two").glob("*/")
    names = [str(job.relative_to(place.folder)) for job in jobs]
    return {place.config(name)["task"]["name"]: name for name in names}


@pytest.fixture(scope="session")
def assert_same_run(place: Place) -> Callable[[str, str], None]:
    """Return a function that compares what two runs have logged, within 1e-4."""

    def check(one: str, other: str) -> None:
        lines, others = place.lines(one), place.lines(other)
        assert [line["step"] for line in lines] == [line["step"] for line in others]
        # Of the machine, and of what was padded.
        incidental = ("tokens_per_second", "seconds", "padding", "flops", "mfu")
        for line, again in zip(lines, others, strict=True):
            assert line.keys() == again.keys()
            for name in line.keys() - {f"train/{part}" for part in incidental}:
                assert line[name] == pytest.approx(again[name], rel=0, abs=1e-4), line["step"]

    return check
