"""HTML pages in one file, without a network or other files."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

# Shared by all pages: the frame, light and dark colours, fonts, the button to switch.
SHARED = Path(__file__).parent / "assets"


def render_page(
    assets: Path,
    *,
    styles: Sequence[str],
    scripts: Sequence[str],
    filters: Mapping[str, Callable[..., Any]] | None = None,
    **values: Any,
) -> str:
    """Return the HTML of ``page.html`` in a folder, with its styles and scripts inlined.

    The page makes no request and runs no script but its own; values are shown as text, whatever
    they contain.

    Args:
        assets: the folder of the template, the styles and the scripts.
        styles, scripts: files to add to those that all pages share.
        values: for the template; ``data`` among them is for the script.
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
