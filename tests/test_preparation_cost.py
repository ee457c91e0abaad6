"""The benchmark of preparation measures what it says, on the text it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bertexp.bench.preparation import measure_preparation
from bertexp.config import Config


def test_preparation_is_measured_beside_the_library(
    experiment_config: Callable[..., Config], empty_cache: Path
) -> None:
    config = experiment_config(
        "dataset=synthetic", "dataset.synthetic.documents=60", "tokenizer.vocab_size=256"
    )
    found = measure_preparation(config, megabytes=0.3, processes=(1, 2), repeats=1)
    assert 0.3 <= found.megabytes < 0.31
    assert set(found.seconds) == set(found.peak_megabytes) == {1, 2}
    times = (*found.seconds.values(), found.encode_batch_seconds, found.second_start_seconds)
    assert all(seconds > 0 for seconds in times)
    kinds = {path.name for path in empty_cache.iterdir()}
    assert "tokens" not in kinds, "the text that is measured is no part of the user's cache"
