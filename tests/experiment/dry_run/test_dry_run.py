"""``trainer.dry_run=true`` says what a run would take, and leaves nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DRY = "trainer.dry_run=true"
SHORT = (
    *("dataset=synthetic", "dataset.synthetic.documents=60", "tokenizer.vocab_size=256"),
    *("trainer.max_steps=24", "evaluation.every=8", "evaluation.max_examples=24"),
    *("evaluation.pseudo_perplexity=0", "evaluation.probes=[]", "hardware.threads=1"),
)
PREFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


def amount(text: str) -> float:
    """The number that ``1.5 MB`` or ``1.5M`` stands for."""
    found = re.match(r"([\d.]+) ?([kMG]?)", text)
    assert found, text
    return float(found[1]) * PREFIXES[found[2]]


def said(output: str, name: str) -> str:
    """What stands beside a name, whole where it is folded."""
    found = re.search(rf"^{name}  +(.*(?:\n  +.*)*)", output, re.MULTILINE)
    assert found, output
    return " ".join(found[1].split())


def seconds(text: str) -> int:
    """The first time in a text, such as 1:02:03."""
    found = re.search(r"\d+(?::\d\d)+", text)
    assert found, text
    total = 0
    for part in found[0].split(":"):
        total = 60 * total + int(part)
    return total


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_it_says_what_the_run_then_takes(command: Callable[..., Any], tmp_path: Path) -> None:
    planned = command(*SHORT, DRY, folder=tmp_path)
    assert planned.code == 0, planned.errors
    assert {path.name for path in tmp_path.iterdir()} == {"cache"}
    done = command(*SHORT, "tracker=none", folder=tmp_path)
    assert done.code == 0, done.errors
    (folder,) = tmp_path.glob("outputs/*-*-*/*")
    spent = json.loads((folder / "summary.json").read_text())["budget"]
    assert spent["step"] == 24
    assert "24 of 16 examples" in said(planned.output, "steps")
    training = re.fullmatch(r"(\S+) tokens, (\S+) epochs", said(planned.output, "training"))
    assert training
    assert amount(training[1]) == pytest.approx(spent["tokens"], rel=0.05)
    compute = said(planned.output, "compute")
    assert float(compute.split()[0]) == pytest.approx(spent["flops"], rel=0.05)
    assert 1e8 < amount(said(planned.output, "memory")) < 1e10
    disk = said(planned.output, "disk")
    one = re.search(r"(\d) checkpoints of ([\d.]+ \wB), the model ([\d.]+ \wB)", disk)
    assert one
    for kind, expected in (("checkpoints/step-24", one[2]), ("model", one[3])):
        # The weights; and the tokenizer's few files.
        tensors = sum(p.stat().st_size for p in (folder / kind).glob("*.safetensors"))
        assert tensors == pytest.approx(amount(expected), rel=0.05)
    assert len(list(folder.glob("checkpoints/step-*"))) <= int(one[1])
    assert max(map(len, planned.output.splitlines())) <= 80


def test_a_sweep_is_planned_job_by_job_and_its_finished_jobs_stay(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    rates = "masking.prob=0.15,0.4"
    planned = command("-m", *SHORT, rates, "seed=0,1", "tracker=none", DRY, folder=tmp_path)
    assert planned.code == 0, planned.output + planned.errors
    pattern = r"^masking\.prob=(\S+),seed=(\d) +\S+ +24 +(\S+) +(\S+) .*$"
    rows = re.findall(pattern, planned.output, re.MULTILINE)
    assert [row[:2] for row in rows] == [("0.15", "0"), ("0.15", "1"), ("0.4", "0"), ("0.4", "1")]
    # Seeds do not differ in what they cost; rates do.
    (low, same), (high, also) = rows[:2], rows[2:]
    assert low[2:] == same[2:]
    assert high[2:] == also[2:]
    assert low[2] == high[2]
    assert low[3] != high[3]
    assert re.search(r"^4 jobs +96 ", planned.output, re.MULTILINE)
    assert max(map(len, planned.output.splitlines())) <= 80
    assert {path.name for path in tmp_path.iterdir()} == {"cache"}

    sweep = ("-m", *SHORT, "trainer.max_steps=2", "tracker=none", "sweep=rates")
    assert command(*sweep, rates, folder=tmp_path).code == 0
    folder = tmp_path / "outputs" / "sweeps" / "rates"
    jobs = {path.name: files(path) for path in folder.iterdir() if path.is_dir()}
    assert set(jobs) == {"masking.prob=0.15", "masking.prob=0.4"}
    planned = command(*sweep, f"{rates},0.6", DRY, folder=tmp_path)
    assert planned.code == 0, planned.output + planned.errors
    assert "2 done already" in planned.output
    assert re.search(r"^1 job ", planned.output, re.MULTILINE)
    assert {path.name: files(path) for path in folder.iterdir() if path.is_dir()} == jobs


def test_the_time_of_training_leaves_out_evaluations(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    many = ("trainer.epochs=null", "trainer.max_steps=100_000", "evaluation.every=1")
    planned = command(*SHORT, *many, "tracker=none", DRY, folder=tmp_path)
    assert planned.code == 0, planned.output + planned.errors
    training = seconds(said(planned.output, "time"))
    whole, _, evaluations = said(planned.output, "in all").partition("evaluations")
    assert abs(training + seconds(evaluations) - seconds(whole)) <= 2, planned.output


def test_two_processes_share_the_steps(command: Callable[..., Any], tmp_path: Path) -> None:
    processes = ("hardware.num_processes=2", "tracker=none")
    planned = command(*SHORT, *processes, DRY, folder=tmp_path)
    assert planned.code == 0, planned.output + planned.errors
    assert said(planned.output, "processes").startswith("2, each with 8 of a step's 16 examples; ")
    assert "24 of 16 examples" in said(planned.output, "steps")
    assert {path.name for path in tmp_path.iterdir()} == {"cache"}


def test_fine_tuning_is_planned_too(
    command: Callable[..., Any], trained: Callable[[str], Path], tmp_path: Path
) -> None:
    for name in ("train", "validation"):
        rows = "".join(f"text number {number},{number % 2}\n" for number in range(40))
        (tmp_path / f"{name}.csv").write_text(f"text,label\n{rows}")
    data = ("finetune.train=train.csv", "finetune.validation=validation.csv")
    planned = command(
        *(str(trained("mlm")), *data, "trainer.epochs=3", DRY, "tracker=none"),
        module="bertexp.finetune",
        folder=tmp_path,
    )
    assert planned.code == 0, planned.output + planned.errors
    assert said(planned.output, "training").endswith(" tokens, 3 epochs")
    assert "6 steps of " in said(planned.output, "in all")
    assert not list(tmp_path.glob("outputs"))


def test_what_cannot_be_planned_is_one_line(command: Callable[..., Any], tmp_path: Path) -> None:
    brief = ("trainer.max_steps=2", "tracker=none", "hydra.run.dir=run")
    done = command(*SHORT, *brief, folder=tmp_path)
    assert done.code == 0, done.errors
    before = files(tmp_path / "run")
    log = before.pop("bertexp.log")
    wrong = command("trainer.resume=run", DRY, folder=tmp_path)
    assert wrong.code == 1
    assert wrong.lines[-1].startswith("error: trainer.dry_run: plans a run from its start, and ")
    after = files(tmp_path / "run")
    assert after.pop("bertexp.log").startswith(log)
    assert after == before
    wrong = command(*SHORT, "trainer.dry_run=maybe", folder=tmp_path)
    assert wrong.code == 1
    assert "trainer.dry_run" in wrong.lines[-1]
    wrong = command("-m", *SHORT, "task.max_length=64,1000", DRY, folder=tmp_path)
    assert wrong.code == 1
    assert wrong.lines[-1].startswith("error: task.max_length=1000: the model has only ")
    assert not list(tmp_path.glob("outputs/sweeps/*"))
