"""Execute the notebooks and keep what they show: `make notebooks`, five minutes on one core.

    python notebooks/make.py                # all
    python notebooks/make.py masks          # one of them

The Korean ones have the same code, so what it shows is copied.
"""

from __future__ import annotations

import sys
import tempfile
from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image
from rich.jupyter import JUPYTER_HTML_FORMAT

HERE = Path(__file__).parent
COLOURS = 64
RICH = JUPYTER_HTML_FORMAT.partition("{")[0]


def executed(path: Path, folder: Path) -> Any:
    """Return a notebook with what its cells show when they run in a folder.

    What runs print meanwhile is left out, as it has times in it, and pictures are made small.

    Raises:
        CellExecutionError: a cell fails.
    """
    book: Any = nbformat.read(path, as_version=4)
    at: Any = {"metadata": {"path": str(folder)}}
    NotebookClient(book, resources=at, timeout=600, record_timing=False).execute()
    for cell in code_cells(book):
        cell.outputs = [smaller(each) for each in cell.outputs if not is_printed(each)]
    # Without the version of Python.
    book.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return book


def is_printed(output: Any) -> bool:
    """Whether it was printed, by Python or by Rich, which displays it in a notebook."""
    if output.output_type == "stream":
        return True
    return output.get("data", {}).get("text/html", "").startswith(RICH)


def smaller(output: Any) -> Any:
    """Return an output whose picture, if it is one, has few colours."""
    if "image/png" in output.get("data", {}):
        picture = Image.open(BytesIO(b64decode(output.data["image/png"])))
        data = BytesIO()
        # The default method gives tokens of several colours the same one.
        few = picture.convert("RGB").quantize(COLOURS, Image.Quantize.FASTOCTREE)
        few.save(data, "PNG", optimize=True)
        output.data["image/png"] = b64encode(data.getvalue()).decode()
    return output


def code_cells(book: Any) -> list[Any]:
    return [cell for cell in book.cells if cell.cell_type == "code"]


def main(names: list[str]) -> None:
    for path in sorted(HERE.glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            book = executed(path, Path(folder))
        nbformat.write(book, path)
        translated = HERE / "ko" / path.name
        if translated.exists():
            other: Any = nbformat.read(translated, as_version=4)
            other.metadata = book.metadata
            for cell, source in zip(code_cells(other), code_cells(book), strict=True):
                cell.update(outputs=source.outputs, execution_count=source.execution_count)
            nbformat.write(other, translated)


if __name__ == "__main__":
    main(sys.argv[1:])
