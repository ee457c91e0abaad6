"""Kills a run at random moments and resumes it: the result must be that of a run left alone.

    python tests/soak.py --trials 200

Every trial is a kill -9; half of them wait for a checkpoint to be half-written. A killed run is
started again with ``trainer.resume=auto`` and another number of loader workers, as often as it
takes. What it then leaves (weights, optimizer, every line of ``metrics.jsonl``) is compared
with the run that was never touched. Processes are forked from this one, which has imported
everything once.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from folders import summary, untimed

OVERRIDES = (
    *("dataset=synthetic", "dataset.synthetic.documents=60", "tokenizer.vocab_size=256"),
    *("model.hidden_size=16", "model.intermediate_size=16", "model.dropout=0.1"),
    *("trainer.max_steps=40", "trainer.batch_size=4", "trainer.gradient_accumulation_steps=2"),
    *("trainer.log_every=7", "trainer.save_every=3", "evaluation.every=10", "masking=decay"),
    "evaluation.probes=[]",
    *("evaluation.max_examples=16", "evaluation.pseudo_perplexity=2", "tracker=none"),
    *("hardware=cpu", "hardware.threads=1", "scheduler=cosine"),
)


def start(folder: Path, *overrides: str) -> int:
    """Start ``python -m bertexp`` in a process of its own; returns the process's number."""
    if pid := os.fork():
        return pid
    log = os.open(folder.with_suffix(".txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["bertexp", *OVERRIDES, f"hydra.run.dir={folder}", *overrides]
    code: Any = 1
    try:
        importlib.import_module("bertexp.cli").main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdout.flush()
        os._exit(code if isinstance(code, int) else 1)


def wait(pid: int, until: float = float("inf"), sight: Path | None = None) -> int | None:
    """Return the exit code, or None if the process is at work at a time, or at a sight then."""
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until and (sight is None or any(sight.glob("*.unfinished"))):
            return None
        time.sleep(0.0005)


def outcome(folder: Path) -> dict[str, Any]:
    """Return all that a run leaves and time has no part in."""
    found = summary(folder)
    step = found["budget"]["step"]
    files = ("model/model.safetensors", f"checkpoints/step-{step}/training.safetensors")
    return {
        "status": found["status"],
        "metrics.jsonl": untimed(folder),
        "best": found["best"],
        "budget": {k: v for k, v in found["budget"].items() if k != "seconds"},
        "checkpoints": {
            path.name for path in folder.glob("checkpoints/step-*") if path.suffix == ""
        },
        **{name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files},
    }


def differences(folder: Path, expected: dict[str, Any], code: int) -> list[str]:
    """Return what was lost on the way."""
    if code:
        return [f"exit code {code}"]
    found = outcome(folder)
    return [name for name in expected if found[name] != expected[name]]


def soak(work: Path, trials: int, seed: int) -> int:
    """Print a line a trial; returns the number of runs that did not end as they should."""
    draw = random.Random(seed)
    reference = work / "reference"
    if wait(start(reference)):
        sys.exit(reference.with_suffix(".txt").read_text())
    expected = outcome(reference)
    began = time.monotonic()
    wait(start(work / "timed"))
    seconds = time.monotonic() - began
    losses = trial = runs = 0
    while trial < trials:
        runs, code = runs + 1, None
        folder = work / f"run-{runs}"
        while code is None:
            workers = f"hardware.num_workers={draw.choice([0, 0, 1, 2])}"
            pid = start(folder, "trainer.resume=auto", workers)
            delay = draw.uniform(0, seconds) if trial < trials else float("inf")
            sight = folder / "checkpoints" if draw.random() < 0.5 else None
            code = wait(pid, time.monotonic() + delay, sight)
            if code is None:
                trial += 1
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                there = sorted(path.name for path in folder.glob("checkpoints/*"))
                print(f"trial {trial:3}: killed after {delay:.2f} s, {workers}: {' '.join(there)}")
        lost = differences(folder, expected, code)
        losses += bool(lost)
        print(f"  run {runs} ended: {'LOST ' + ', '.join(lost) if lost else 'as if untouched'}")
        sys.stdout.flush()
    print(f"{trial} trials, {runs} runs, {losses} losses")
    return losses


def main() -> None:
    """Run as many trials as the command line sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    modeling = "transformers.models.bert.modeling_bert"
    for module in ("bertexp.cli", "bertexp.experiment.pretraining", "pandas", modeling):
        importlib.import_module(module)
    with tempfile.TemporaryDirectory() as work:
        os.environ["BERTEXP_CACHE"] = str(Path(work) / "cache")
        os.chdir(work)
        sys.exit(min(soak(Path(work), chosen.trials, chosen.seed), 1))


if __name__ == "__main__":
    main()
