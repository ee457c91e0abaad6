"""``python -m bertexp.bench`` measures what it says; how fast that is, no test asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bertexp.masking import STRATEGIES

SMALL = (
    *("dataset=synthetic", "dataset.synthetic.documents=60", "task.max_length=64"),
    *("tokenizer.vocab_size=256", "masking.pmi_min_count=2", "bench.repeats=1"),
)


def test_every_strategy_is_measured_beside_the_collator(
    command: Callable[..., Any],
) -> None:
    done = command(*SMALL, module="bertexp.bench")
    assert done.code == 0, done.errors
    (path,) = done.folder.glob("outputs/bench/*/bench.json")
    cost = json.loads(path.read_text())
    assert set(cost["mask_ms"]) == set(STRATEGIES.names())
    assert set(cost["batch_ms"]) == {*STRATEGIES.names(), "DataCollatorForLanguageModeling"}
    assert cost["batch_size"] == 32
    for times in (cost["mask_ms"], cost["batch_ms"]):
        assert all(0 < time < 1e4 for time in times.values())
    assert max(map(len, done.output.splitlines())) <= 80 + len(str(done.folder))


def test_what_cannot_be_measured_is_one_line(command: Callable[..., Any], tmp_path: Path) -> None:
    for wrong, said in (
        ("task=nsp", "bench: task=nsp masks nothing; use task=mlm."),
        ("trainer.batch_size=100000", "trainer.batch_size=100000: the corpus has only"),
    ):
        done = command(*SMALL, wrong, module="bertexp.bench", folder=tmp_path)
        assert done.code == 1
        assert said in done.output + done.errors
