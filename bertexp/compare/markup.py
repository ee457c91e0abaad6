"""A comparison's tables as Markdown, for a page, and as LaTeX, for a paper."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from rich.table import Table

from bertexp.compare import wording
from bertexp.compare.results import Comparison
from bertexp.compare.table import legend, tables

_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"},
    **{"±": r"$\pm$", "−": "$-$", "×": r"$\times$", "–": "--", "<": "$<$", ">": "$>$"},
}


def markdown(comparison: Comparison) -> str:
    """Return the answer, the settings and effects in tables, and what the figures mean."""
    parts = [_in_markdown(line) for line in (wording.headline(comparison), *comparison.warnings)]
    for table in tables(comparison):
        head, *rows = (f"| {' | '.join(row)} |" for row in _rows(table, _in_markdown))
        aligned = ("---:" if c.justify == "right" else "---" for c in table.columns)
        parts.append("\n".join([head, f"| {' | '.join(aligned)} |", *rows]))
    return "\n\n".join([*parts, _in_markdown(legend(comparison))])


def latex(comparison: Comparison) -> str:
    """Return a table for LaTeX's package booktabs; its caption has the answer and the legend."""
    caption = [wording.headline(comparison), *comparison.warnings, legend(comparison)]
    lines = ["% \\usepackage{booktabs}", r"\begin{table}", r"\centering"]
    for number, table in enumerate(tables(comparison)):
        head, *rows = (rf"{' & '.join(row)} \\" for row in _rows(table, _in_latex))
        columns = "".join("r" if c.justify == "right" else "l" for c in table.columns)
        lines += [r"\par\medskip"] * bool(number) + [rf"\begin{{tabular}}{{{columns}}}"]
        lines += [r"\toprule", head, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*lines, rf"\caption{{{_in_latex(' '.join(caption))}}}", r"\end{table}"])


def _rows(table: Table, escaped: Callable[[str], str]) -> Iterator[list[str]]:
    """Yield the heads and the rows of a table, each cell in a line."""
    yield [escaped(str(column.header)) for column in table.columns]
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        yield [escaped(str(cell)) for cell in cells]


def _in_markdown(text: str) -> str:
    # An underscore within a word is a letter.
    return re.sub(r"([\\`*<|\[])", r"\\\1", text.replace("\n", " "))


def _in_latex(text: str) -> str:
    return re.sub("|".join(map(re.escape, _LATEX)), lambda m: _LATEX[m[0]], text.replace("\n", " "))


MARKUPS = {"markdown": markdown, "latex": latex}
