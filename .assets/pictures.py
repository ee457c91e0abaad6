"""Make the README's pictures of what ``python -m bertexp.inspect`` shows.

    python .assets/pictures.py RUN

RUN is a trained run; the pictures in this folder are of the default run's model.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
WIDTH = 80
TEXT = "text=The generator returns a list of values."
# What is printed, and how many of its first and last lines are shown.
PRINTED = {
    "architecture": (60, 0, ["model=base", "tokenizer.vocab_size=30522"]),
    "tokens": (60, 0, ["run=RUN", "text=I love NLP!", "text_b=I love ai", "task.pad_to=128"]),
    "masking": (12, 22, ["run=RUN", "masking=whole_word"]),
    "pairs": (18, 4, ["run=RUN", "task=nsp", "task.negatives={swap: 0.5, same_document: 0.5}"]),
}
DRAWN = {
    "hidden": ["run=RUN", TEXT],
    "attention": ["run=RUN", TEXT, "layer=1"],
    "embeddings": ["run=RUN", "text=list error file returns true python number"],
}


def inspect(topic: str, *arguments: str) -> str:
    """Return what the command prints, with its colours."""
    command = [sys.executable, "-m", "bertexp.inspect", f"what={topic}", *arguments]
    environment = os.environ | {"FORCE_COLOR": "1", "COLUMNS": str(WIDTH)}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout


def main(run: str) -> None:
    """Make all pictures anew."""
    for topic, (first, last, arguments) in PRINTED.items():
        lines = inspect(topic, *_of(run, arguments)).rstrip("\n").split("\n")
        if len(lines) > first + last:
            lines = [*lines[:first], *lines[-last:]] if last else lines[:first]
        console = Console(width=WIDTH, record=True, file=io.StringIO())
        console.print(Text.from_ansi("\n".join(lines)))
        drawn = console.export_svg(
            title=shlex.join(["bertexp.inspect", f"what={topic}", *arguments])
        )
        # Fonts of the reader's own: a picture asks no network.
        drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
        drawn = drawn.replace("Fira Code", "DejaVu Sans Mono, Menlo, Consolas")
        (HERE / f"{topic}.svg").write_text(drawn, encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        for topic, arguments in DRAWN.items():
            inspect(topic, *_of(run, arguments), f"output={folder}")
            shutil.copy(Path(folder) / f"{topic}.png", HERE)


def _of(run: str, arguments: list[str]) -> list[str]:
    return [argument.replace("RUN", run) for argument in arguments]


if __name__ == "__main__":
    main(sys.argv[1])
