"""HTML pages in one file, which need no network and no other file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

# What all pages share: the frame; colours in light and dark, type, the button between the two.
SHARED = Path(__file__).parent / "assets"


def render_page(
    assets: Path,
    *,
    styles: Sequence[str],
    scripts: Sequence[str],
    filters: Mapping[str, Callable[..., Any]] | None = None,
    **values: Any,
) -> str:
    """Return the HTML of ``page.html`` in a folder, with its style and its script inside.

    It extends the frame that all pages share, and fills its blocks.

    The page asks the network for nothing and runs no script but its own; values are shown as
    they are, whatever they contain.

    Args:
        assets: the folder of the template, the styles and the scripts.
        styles, scripts: files to put in after those that all pages share.
        values: what the template shows; ``data`` of it is what the script reads.
    """
    environment = Environment(
        loader=FileSystemLoader([assets, SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters or {}
    style = _joined(SHARED / "base.css", *(assets / name for name in styles))
    script = _joined(SHARED / "theme.js", *(assets / name for name in scripts))
    return environment.get_template("page.html").render(
        style=Markup(style),
        script=Markup(script),
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **values,
    )


def _joined(*files: Path) -> str:
    return "".join(file.read_text(encoding="utf-8") for file in files)
