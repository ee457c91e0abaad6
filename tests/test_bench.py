"""``python -m bertexp.bench`` measures what it says; how fast that is, no test asks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bertexp.masking import STRATEGIES

SMALL = (
    *("dataset=synthetic", "dataset.synthetic.documents=60", "task.max_length=64"),
    *("tokenizer.vocab_size=256", "masking.pmi_min_count=2", "bench.repeats=1"),
)


def bench(
    folder: Path, environment: dict[str, str], *overrides: str
) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "bertexp.bench", *SMALL, *overrides],
        cwd=folder,
        env=environment | {"BERTEXP_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
    )


def test_every_strategy_is_measured_beside_the_collator(
    tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    done = bench(tmp_path, clean_environment)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("outputs/bench/*/bench.json")
    cost = json.loads(path.read_text())
    assert set(cost["mask_ms"]) == set(STRATEGIES.names())
    assert set(cost["batch_ms"]) == {*STRATEGIES.names(), "DataCollatorForLanguageModeling"}
    assert cost["batch_size"] == 32
    for times in (cost["mask_ms"], cost["batch_ms"]):
        assert all(0 < time < 1e4 for time in times.values())
    assert max(map(len, done.stdout.splitlines())) <= 80 + len(str(tmp_path))


def test_what_cannot_be_measured_is_one_line(
    tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    done = bench(tmp_path, clean_environment, "task=nsp")
    assert done.returncode == 1
    assert "bench: task=nsp masks nothing; use task=mlm." in done.stdout + done.stderr
    done = bench(tmp_path, clean_environment, "trainer.batch_size=100000")
    assert done.returncode == 1
    assert "trainer.batch_size=100000: the corpus has only" in done.stdout + done.stderr
