"""What objects show of themselves: text in a terminal, colours and pictures in a notebook."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A picture's data by MIME type.
Picture = Mapping[str, str]

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
        return self._text()["text/html"] + "".join(map(_embedded, self.pictures()))

    def _ipython_display_(self) -> None:
        """Show each picture as an output of its own: GitHub shows none that are inside HTML."""
        from IPython.display import display

        for output in (self._text(), *self.pictures()):
            display(output, raw=True)

    def _text(self) -> dict[str, str]:
        code = _recorded(self.__rich__()).export_html(inline_styles=True, code_format=_PRE)
        return {"text/plain": str(self), "text/html": code}

    def pictures(self) -> Iterator[Picture]:
        """Yield what a notebook shows below."""
        yield from ()


class Printed(Shown):
    """What a command printed, and the files that it wrote."""

    def __init__(self, parts: list[RenderableType], files: list[Path]) -> None:
        self.parts, self.files = parts, files

    def __rich__(self) -> RenderableType:
        return Group(*self.parts)

    def pictures(self) -> Iterator[Picture]:
        for path in self.files:
            is_page = path.suffix == ".html"
            yield page(path.read_text(encoding="utf-8")) if is_page else _png(path.read_bytes())


def displayable(figure: Figure) -> Figure:
    """Return a figure that a notebook shows, which otherwise needs pyplot for it."""
    vars(figure)["_repr_png_"] = partial(_drawn, figure)
    return figure


def picture(figure: Figure) -> Picture:
    return _png(_drawn(figure))


def _drawn(figure: Figure) -> bytes:
    from bertexp.plotting import drawing

    data = io.BytesIO()
    with drawing():
        figure.savefig(data, format="png", dpi=100)
    return data.getvalue()


def page(content: str) -> Picture:
    """Return a whole page, with its own styles and scripts, as a part of another one."""
    style = f"width:100%;height:{HEIGHT}px;border:0"
    return {"text/html": f'<iframe srcdoc="{html.escape(content)}" style="{style}"></iframe>'}


def _png(data: bytes) -> Picture:
    return {"image/png": base64.b64encode(data).decode()}


def _embedded(picture: Picture) -> str:
    """Return a picture as HTML that needs no other file."""
    if "text/html" in picture:
        return picture["text/html"]
    return f'<img style="max-width:100%" src="data:image/png;base64,{picture["image/png"]}">'


def _recorded(content: RenderableType) -> Console:
    # In a notebook a console would print to the cell.
    console = Console(file=io.StringIO(), width=WIDTH, record=True, force_jupyter=False)
    console.print(content, crop=False)
    return console
