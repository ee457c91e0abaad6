"""Help and mistakes are printed at once: no library that takes long to load is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SLOW = {"torch", "transformers", "datasets", "pyarrow", "numpy", "scipy", "sklearn", "pandas"}
SLOW |= {"accelerate", "matplotlib", "wandb"}
# With the error that each prints.
COMMANDS = {
    "bertexp --help": "",
    "bertexp --cfg job --resolve masking.prob=0.4": "",
    **{f"bertexp.{name} --help": "" for name in ("compare", "inspect", "predict", "evaluate")},
    **{f"bertexp.{name} --help": "" for name in ("finetune", "bench", "doctor")},
    "bertexp trainer.epochz=3": "trainer.epochz: no such key",
    "bertexp trainer.epochs=ten": "trainer.epochs=ten: must be a number",
    "bertexp dataset.max_documents=1": "dataset.max_documents=1: must be at least 2",
    "bertexp masking.draw=both": "masking.draw=both: must be one of",
    "bertexp trainer.resume=nowhere": "trainer.resume=nowhere: no run's folder",
    "bertexp.predict no/such/run text": "run=no/such/run: there is no such folder",
    "bertexp.evaluate no/such/run": "run=no/such/run: there is no such folder",
    "bertexp.finetune no/such/run": "run=no/such/run: there is no such folder",
    "bertexp.bench bench.what=[speed]": "bench.what=speed: must be one of",
}
RUN = """
import contextlib, io, os, runpy, sys
for line in %r:
    sys.argv = line.split()
    os.environ.pop("HYDRA_FULL_ERROR", None)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        except SystemExit as ending:
            printed.write(f"{ending.code or ''}")
    print(repr(printed.getvalue()), "loaded:", *sys.modules)
"""


def test_nothing_slow_is_loaded_for_help_or_a_mistake(tmp_path: Path) -> None:
    """In one process: what one command loads, the next ones have."""
    code = RUN % ([*COMMANDS],)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    for line, (command, error) in zip(done.stdout.splitlines(), COMMANDS.items(), strict=True):
        printed, _, loaded = line.rpartition(" loaded: ")
        assert error in printed and (not error or "error: " in printed), command
        assert "bertexp" in loaded.split()
        assert not SLOW & {*loaded.split()}, command
