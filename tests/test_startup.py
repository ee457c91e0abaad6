"""Help and a composed configuration come at once: no library that takes long to load is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

SLOW = {"torch", "transformers", "datasets", "pyarrow", "numpy", "scipy", "sklearn", "pandas"}
SLOW |= {"accelerate", "matplotlib", "wandb"}
RUN = """
import runpy, sys
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as ending:
    code = ending.code or 0
print("loaded:", *sys.modules)
sys.exit(code)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("bertexp", "--help"),
        ("bertexp", "--cfg", "job", "--resolve", "masking.prob=0.4"),
        *((f"bertexp.{name}", "--help") for name in ("compare", "inspect", "predict", "evaluate")),
        *((f"bertexp.{name}", "--help") for name in ("finetune", "bench", "doctor")),
    ],
)
def test_help_loads_nothing_slow(arguments: tuple[str, ...]) -> None:
    code = f"import sys; sys.argv = {list(arguments)!r}\n{RUN}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.rpartition("loaded:")[2].split()
    assert "bertexp" in loaded
    assert not SLOW & {*loaded}
