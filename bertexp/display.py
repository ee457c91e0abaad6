"""What objects show of themselves: text in a terminal, colours and pictures in a notebook."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# In characters, and the height of an embedded page in pixels.
WIDTH, HEIGHT = 100, 640
_PRE = '<pre style="font-family:monospace;line-height:1.3;margin:0">{code}</pre>'


class Shown:
    """An object that shows itself as ``__rich__`` returns it, printed or in a notebook."""

    def __rich__(self) -> RenderableType:
        raise NotImplementedError

    def __str__(self) -> str:
        lines = _recorded(self.__rich__()).export_text().splitlines()
        return "\n".join(line.rstrip() for line in lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        text = _recorded(self.__rich__()).export_html(inline_styles=True, code_format=_PRE)
        return text + "".join(self.pictures())

    def pictures(self) -> Iterator[str]:
        """Yield what a notebook shows below, in HTML."""
        yield from ()


class Printed(Shown):
    """What a command printed, and the files that it wrote."""

    def __init__(self, parts: list[RenderableType], files: list[Path]) -> None:
        self.parts, self.files = parts, files

    def __rich__(self) -> RenderableType:
        return Group(*self.parts)

    def pictures(self) -> Iterator[str]:
        for path in self.files:
            is_page = path.suffix == ".html"
            yield page(path.read_text(encoding="utf-8")) if is_page else _png(path.read_bytes())


def figure(drawn: Figure) -> str:
    """Return a figure as HTML that needs no other file."""
    data = io.BytesIO()
    drawn.savefig(data, format="png", dpi=100)
    return _png(data.getvalue())


def page(content: str) -> str:
    """Return a whole page, with its own styles and scripts, as a part of another one."""
    style = f"width:100%;height:{HEIGHT}px;border:0"
    return f'<iframe srcdoc="{html.escape(content)}" style="{style}"></iframe>'


def _png(data: bytes) -> str:
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return f'<img style="max-width:100%" src="{source}">'


def _recorded(content: RenderableType) -> Console:
    # In a notebook a console would print to the cell.
    console = Console(file=io.StringIO(), width=WIDTH, record=True, force_jupyter=False)
    console.print(content, crop=False)
    return console
