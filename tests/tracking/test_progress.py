"""Progress: plain lines in a pipe, a bar on a terminal that is given back whatever happens."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bertexp.console import clock
from bertexp.tracking.progress import Progress

Capture = pytest.CaptureFixture[str]

SHOW_CURSOR = "\x1b[?25h"
HIDE_CURSOR = "\x1b[?25l"


def test_a_pipe_gets_lines_now_and_then_and_the_last_one(capsys: Capture) -> None:
    with Progress(400) as progress:
        for step in range(10, 401, 10):
            progress.update(step, step / 400, 6.2144, 8120.4)
        progress.note("eval/loss@0.15 6.1 [0.15]")
    with Progress(4, disable=True) as progress:
        progress.update(1, 0.25, 1.0, 1.0)
        progress.note("nothing of this is shown")
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.splitlines() == [
        "step 10/400 · 2% · loss 6.214 · 8,120 tokens/s",
        "eval/loss@0.15 6.1 [0.15]",
        "step 400/400 · 100% · loss 6.214 · 8,120 tokens/s · 0:00 in all",
    ]


def test_time_left_follows_the_pace_since_the_first_update(capsys: Capture) -> None:
    with pytest.raises(RuntimeError), Progress(1000) as progress:
        progress.update(500, 0.5, float("nan"), 1e6)
        time.sleep(0.5)
        progress.update(501, 0.505, float("nan"), 1e6)
        raise RuntimeError
    last = capsys.readouterr().err.splitlines()[-1]
    pattern = (
        r"step 501/1000 · (50|51)% · loss nan · 1,000,000 tokens/s · (0:4[89]|0:5\d|1:\d\d) left"
    )
    assert re.fullmatch(pattern, last)


BAR = """
import logging
import sys
import time
from bertexp.console import clock
from bertexp.tracking.progress import Progress
logging.basicConfig(format="logged: %(message)s", stream=sys.stdout)
with Progress(400) as progress:
    progress.update(100, 0.25, 6.2144, 8120.4)
    progress.note("eval [0.15] 6.1")
    logging.warning("careful")
    {end}
logging.warning("after")
"""


@pytest.mark.parametrize(
    ("end", "interrupt"),
    [
        ("progress.update(400, 1.0, 6.2, 8120.4)", False),
        ("raise RuntimeError", False),
        ("progress.note('ready'); time.sleep(30)", True),
    ],
)
def test_a_terminal_gets_a_bar_and_its_cursor_back(
    on_a_terminal: Callable[..., str], end: str, interrupt: bool
) -> None:
    shown = on_a_terminal(BAR.format(end=end), interrupt)
    assert HIDE_CURSOR in shown
    assert shown.rindex(SHOW_CURSOR) > shown.rindex(HIDE_CURSOR)
    assert "step 100/400 · 25% · loss 6.214 · 8,120 tokens/s" in shown
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    lines = re.split(r"[\r\n]+", plain)
    assert "eval [0.15] 6.1" in lines, "a note stands on a line of its own"
    assert "logged: careful" in lines, "so does a log message"
    if end.startswith("progress.update"):
        assert "logged: after" in lines
    else:
        assert "Error" in plain or "KeyboardInterrupt" in plain
    assert max(map(len, lines)) <= 80 or "Traceback" in plain


def test_standard_output_into_a_file_stays_there(
    on_a_terminal: Callable[..., str], tmp_path: Path
) -> None:
    code = BAR.format(end="print('result')")
    redirected = f"import sys\nsys.stdout = open('out', 'w')\n{code}"
    shown = on_a_terminal(redirected)
    assert "result" not in shown
    assert "result" in (tmp_path / "out").read_text()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (48, "0:48"), (725.2, "12:05"), (3723, "1:02:03")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
