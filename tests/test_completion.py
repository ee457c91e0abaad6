"""The shell completes groups, options and keys, as the documentation sets it up."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# What a shell does with the words before the cursor.
BASH = """
eval "$(bertexp --shell-completion install=bash)"
COMP_CWORD=1
for word in mod masking= trainer.max_s +experiment=nsp_n; do
    COMP_LINE="bertexp $word" COMP_POINT=99
    hydra_bash_completion
    echo "${COMPREPLY[@]}"
done
"""
FISH = """
bertexp --shell-completion install=fish | source
complete -C 'bertexp masking='
"""


def shell(name: str, code: str, environment: dict[str, str]) -> list[str]:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    path = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        [name, "-c", code],
        env=environment | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_bash_completes_groups_options_and_keys(clean_environment: dict[str, str]) -> None:
    groups, options, keys, studies = shell("bash", BASH, clean_environment)
    assert {"model=", "model."} & set(groups.split())
    assert {"masking=bert", "masking=span"} <= set(options.split())
    assert keys == "trainer.max_steps="
    assert studies == "+experiment=nsp_negatives"


@pytest.mark.slow
def test_fish_completes_options(clean_environment: dict[str, str]) -> None:
    assert "masking=span" in shell("fish", FISH, clean_environment)
