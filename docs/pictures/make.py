"""Make the README's pictures: of a run, of a comparison, of what ``inspect`` and ``bench`` show.

    python docs/pictures/make.py                      # all but bench: `make pictures`, ten minutes
    python docs/pictures/make.py --only bench         # some of them
    python docs/pictures/make.py --folder /tmp +size=smoke     # elsewhere, with overrides

The pictures of ``inspect`` show the model of the run, which is trained first.
"""

from __future__ import annotations

import argparse
import contextlib
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
SWEEP = ["+experiment=mask_rate", "masking.prob=0.15,0.4,0.8", "seed=0,1,2"]
# What inspect prints, and how many of its first and last lines are shown.
PRINTED = {
    "architecture": (60, 0, ["model=base", "tokenizer.vocab_size=30522"]),
    "tokens": (60, 0, ["run=RUN", "text=I love NLP!", "text_b=I love ai", "task.pad_to=128"]),
    "masking": (12, 22, ["run=RUN", "masking=whole_word"]),
    "pairs": (18, 4, ["run=RUN", "task=nsp", "task.negatives={swap: 0.5, same_document: 0.5}"]),
}
# What it draws.
DRAWN = {
    "hidden": ["run=RUN", TEXT],
    "attention": ["run=RUN", TEXT, "layer=1"],
    "embeddings": ["run=RUN", "text=array error file returns true sample number"],
}
OTHERS = ("run", "sweep", "bench")


class Pictures:
    """Makes pictures in ``folder`` by commands that work in ``work``, with ``overrides``."""

    def __init__(self, folder: Path, work: Path, overrides: list[str]) -> None:
        self._folder, self._work, self._overrides = folder, work, overrides
        self._run: str | None = None

    def make(self, name: str) -> None:
        """Make the picture called ``name``."""
        if name in PRINTED:
            first, last, arguments = PRINTED[name]
            lines = self._inspect(name, arguments)
            if len(lines) > first + last:
                lines = [*lines[:first], *lines[len(lines) - last :]]
            title = shlex.join(["bertexp.inspect", f"what={name}", *arguments])
            self._write_terminal(name, title, lines)
        elif name in DRAWN:
            self._inspect(name, [*DRAWN[name], "output=drawn"])
            shutil.copy(self._work / "drawn" / f"{name}.png", self._folder)
        elif name == "run":
            self._trained()
        else:
            getattr(self, f"_{name}")()

    def _trained(self) -> str:
        """Return the folder of the default run, whose picture is made when it is trained."""
        if self._run is None:
            lines = self._print("bertexp", *self._overrides)
            self._write_terminal("run", "bertexp", ["\x1b[1m$ python -m bertexp\x1b[0m", *lines])
            plain = "\n".join(Text.from_ansi(line).plain for line in lines)
            found = re.search(r"^run +(\S+) *$", plain, re.MULTILINE)
            assert found, plain
            self._run = found[1]
        return self._run

    def _sweep(self) -> None:
        self._print("bertexp", *SWEEP, *self._overrides)
        (page,) = self._work.glob("outputs/sweeps/*/compare.html")
        browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))))
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        target = self._folder / "sweep.png"
        subprocess.run(
            [
                *(browser, *options, "--window-size=1100,1060", "--virtual-time-budget=15000"),
                *(f"--user-data-dir={self._work / 'browser'}", f"--screenshot={target}"),
                page.resolve().as_uri(),
            ],
            capture_output=True,
            check=True,
        )

    def _bench(self) -> None:
        self._print("bertexp.bench", *self._overrides)
        (plot,) = self._work.glob("outputs/**/bench.png")
        shutil.copy(plot, self._folder)

    def _inspect(self, topic: str, arguments: list[str]) -> list[str]:
        given = [a.replace("RUN", self._trained()) if "RUN" in a else a for a in arguments]
        return self._print("bertexp.inspect", f"what={topic}", *given)

    def _print(self, module: str, *arguments: str) -> list[str]:
        """Return the lines that a command leaves on a terminal, with their colours."""
        environment = os.environ | {"COLUMNS": str(WIDTH), "TERM": "xterm-256color"}
        ours, theirs = os.openpty()
        command = [sys.executable, "-m", module, *arguments]
        process = subprocess.Popen(
            command, cwd=self._work, env=environment, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        printed = b""
        # Linux ends a terminal that nobody writes to with an error.
        with contextlib.suppress(OSError):
            while part := os.read(ours, 1 << 16):
                printed += part
        os.close(ours)
        text = printed.decode()
        if process.wait():
            sys.exit(text)
        # A progress bar erases its line and writes it again: the last one stays.
        lines = [line.split("\x1b[2K")[-1] for line in text.rstrip().split("\n")]
        return [re.sub(r"\r|\x1b\[[\d;?]*[A-Zhl]", "", line) for line in lines]

    def _write_terminal(self, name: str, title: str, lines: list[str]) -> None:
        console = Console(width=WIDTH, record=True, file=io.StringIO())
        console.print(Text.from_ansi("\n".join(lines)))
        drawn = console.export_svg(title=title)
        # Fonts of the reader's own: a picture fetches nothing.
        drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
        drawn = drawn.replace("Fira Code", "DejaVu Sans Mono, Menlo, Consolas")
        (self._folder / f"{name}.svg").write_text(drawn, encoding="utf-8")


def main() -> None:
    """Make the pictures that the command line names."""
    names = (*OTHERS, *PRINTED, *DRAWN)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=HERE, help="where to write them")
    parser.add_argument("--only", default=",".join(n for n in names if n != "bench"))
    parser.add_argument("overrides", nargs="*", help="for the run, the sweep and the benchmark")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        pictures = Pictures(options.folder.resolve(), Path(work), options.overrides)
        for name in options.only.split(","):
            if name not in names:
                parser.error(f"--only: '{name}' is none of {', '.join(names)}")
            pictures.make(name)


if __name__ == "__main__":
    main()
