"""Compare what this checkout computes with what another commit does, to the last bit.

    python tests/golden.py COMMIT [NAME...] [KEY=VALUE...]

Runs the same commands in a checkout of COMMIT and in this one, on the CPU in float32, and compares
`metrics.jsonl` (without times), fingerprints, exported weights and `compare.json`. Numbers depend
on the processor, so they are not kept in the repository: both sides run here. Overrides are for
this checkout alone, where defaults have changed since: the draws of masks, with which no mask is
what it was, are `masking.draw=independent masking.at_least_one=true`. Prints a line a difference
and ends with exit code 1 if there is any; a few minutes.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

ROOT = Path(__file__).parents[1]
COMMON = ["hardware=cpu", "hardware.precision=fp32", "tracker=none", "model.dropout=0.1"]
SMALL = ["trainer.max_steps=12", "trainer.log_every=4", "evaluation.every=6"]
SMALL += ["evaluation.max_examples=32", "evaluation.pseudo_perplexity=4"]
SYNTHETIC = ["dataset=synthetic", "dataset.synthetic.documents=120", "tokenizer.vocab_size=256"]
TRAIN = [*COMMON, *SMALL]
SINGLE = "hydra.run.dir=run"
# Module, arguments; they follow one another in one folder.
COMMANDS: dict[str, list[tuple[str, list[str]]]] = {
    "mlm": [("bertexp", [*TRAIN, SINGLE])],
    "whole_word": [("bertexp", [*TRAIN, "masking=decay", "masking.strategy=whole_word", SINGLE])],
    "span": [("bertexp", [*TRAIN, "masking=span", "masking.prob=0.4", SINGLE])],
    "nsp": [
        ("bertexp", [*(each for each in TRAIN if "perplexity" not in each), "task=nsp", SINGLE])
    ],
    "joint": [
        ("bertexp", [*TRAIN, "task=mlm_nsp", "trainer.gradient_accumulation_steps=2", SINGLE])
    ],
    "resumed": [
        ("bertexp", [*TRAIN, *SYNTHETIC, "trainer.save_every=6", SINGLE]),
        ("bertexp", ["trainer.resume=run", "trainer.max_steps=24"]),
    ],
    "finetune": [
        ("bertexp", [*TRAIN, SINGLE]),
        (
            "bertexp.finetune",
            [
                *("run", "finetune.train=train.csv", "finetune.validation=validation.csv"),
                "hydra.run.dir=tuned",
                *("hardware=cpu", "hardware.precision=fp32", "tracker=none", "trainer.max_steps=8"),
                "hydra.run.dir=tuned",
            ],
        ),
    ],
    "sweep": [
        (
            "bertexp",
            ["-m", *TRAIN, *SYNTHETIC, "masking.prob=0.15,0.4", "seed=0,1", "sweep=golden"],
        )
    ],
}
# Whatever depends on the clock, the machine or the place.
LEFT_OUT = re.compile(
    r"seconds|runtime|per_second|mfu|time|path|folder|version|commit|tracker|git|memory|date"
)


def main() -> None:
    """Compare this checkout with the commit that the command line names."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    commit, overrides = sys.argv[1], [each for each in sys.argv[2:] if "=" in each]
    names = [each for each in sys.argv[2:] if "=" not in each] or [*COMMANDS]
    differences = 0
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / "checkout"
        subprocess.run(
            ["git", "-C", ROOT, "worktree", "add", "-q", "--detach", before, commit], check=True
        )
        try:
            for name in names:
                sides = [
                    _run(name, before, Path(folder), []),
                    _run(name, ROOT, Path(folder), overrides),
                ]
                found = [*_differences(*sides)]
                print(f"{name}: {'the same' if not found else f'{len(found)} differences'}")
                print("".join(f"  {line}\n" for line in found[:20]), end="", flush=True)
                differences += len(found)
        finally:
            subprocess.run(
                ["git", "-C", ROOT, "worktree", "remove", "--force", before], check=False
            )
    sys.exit(1 if differences else 0)


def _run(name: str, tree: Path, folder: Path, overrides: list[str]) -> Path:
    """Run the commands of a name with the code in ``tree``, the first one with ``overrides``.

    Returns the folder they wrote to.
    """
    side = "after" if tree == ROOT else "before"
    work = folder / side / name
    work.mkdir(parents=True)
    for split, count in (("train", 48), ("validation", 24)):
        rows = (f"{'a good' if n % 2 else 'the bad'} function {n},{n % 2}" for n in range(count))
        (work / f"{split}.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    environment = os.environ | {
        "PYTHONPATH": str(tree),
        "BERTEXP_CACHE": str(folder / side / "cache"),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    for number, (module, arguments) in enumerate(COMMANDS[name]):
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments, *(overrides if number == 0 else [])],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"{name} ({side}): {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return work


def _differences(before: Path, after: Path) -> Iterator[str]:
    kept = ("metrics.jsonl", "summary.json", "compare.json", "model.safetensors")
    names = sorted(str(path.relative_to(before)) for name in kept for path in before.rglob(name))
    assert any(name.endswith("metrics.jsonl") for name in names), f"{before}: no run"
    for name in names:
        if not (after / name).exists():
            yield f"{name}: is missing"
        elif name.endswith(".safetensors"):
            yield from _tensor_differences(name, before / name, after / name)
        else:
            yield from _number_differences(name, before / name, after / name)


def _tensor_differences(name: str, before: Path, after: Path) -> Iterator[str]:
    one, two = load_file(before), load_file(after)
    for key in sorted(one.keys() | two.keys()):
        if key not in one or key not in two or one[key].tobytes() != two[key].tobytes():
            yield f"{name}: {key} differs"


def _number_differences(name: str, before: Path, after: Path) -> Iterator[str]:
    """Yield what was there before and is missing or differs now; what is new is no difference."""
    one, two = (_numbers(path) for path in (before, after))
    for key, value in one.items():
        if not LEFT_OUT.search(key) and two.get(key) != value:
            yield f"{name}: {key} was {value}, is {two.get(key)}"


def _numbers(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return dict(_flat(json.loads(text), ""))
    found: dict[str, Any] = {}
    for line in map(json.loads, text.splitlines()):
        step = line.get("trainer/step", line.get("step"))
        found |= {f"step {step} {key}": value for key, value in line.items()}
    return found


def _flat(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}/{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{prefix}/{index}")
    elif isinstance(value, int | float | bool) or "fingerprint" in prefix:
        yield prefix, value


if __name__ == "__main__":
    main()
