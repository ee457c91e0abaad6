"""How many processes make the batches of a run on a GPU."""

from __future__ import annotations

import pytest

from bertexp.training.loading import gpu_workers


@pytest.mark.parametrize(("cores", "workers"), [(0, 0), (1, 0), (2, 1), (4, 3), (16, 4)])
def test_a_core_is_left_for_the_run_itself(cores: int, workers: int) -> None:
    assert gpu_workers(cores) == workers
