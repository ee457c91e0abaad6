"""A comparison as an object."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from rich.console import RenderableType

from bertexp.compare.comparison import compare
from bertexp.compare.plots import PLOTS
from bertexp.compare.report import unrelated, write_files
from bertexp.compare.results import Results
from bertexp.compare.runs import SWEEP_FILE, evaluated, read_runs
from bertexp.compare.sweep import setting_rows, sweep_metric
from bertexp.compare.table import render
from bertexp.display import Picture, Shown, displayable, picture
from bertexp.plotting import drawing
from bertexp.validation import UserError, require, require_choice

if TYPE_CHECKING:
    import pandas as pd


class Comparison(Shown):
    """Settings side by side, and which differences are real; ``results`` has every number."""

    def __init__(self, results: Results) -> None:
        self.results = results

    @classmethod
    def of(cls, paths: Sequence[str], evaluation: str | None = None, **chosen: Any) -> Comparison:
        runs = read_runs(paths)
        is_forced = chosen["by"] or chosen["baseline"] or chosen["at"]
        try:
            if evaluation:
                runs = evaluated(runs, evaluation)
            if not is_forced and (why := unrelated(runs)):
                apart = "Name the keys that tell settings apart: by=KEY."
                raise UserError(f"Not compared: {why}. {apart}")
            return cls(compare(runs, evaluation=evaluation, **chosen))
        except UserError as error:
            # The command's options are arguments here.
            options = "|".join([*chosen, "evaluation"])
            raise UserError(re.sub(rf"--({options})[ =]", r"\1=", str(error))) from None

    @classmethod
    def of_sweep(cls, folder: Path, margin: float | None) -> Comparison:
        config = OmegaConf.load(folder / SWEEP_FILE)
        assert isinstance(config, DictConfig)
        return cls(compare(read_runs([folder]), metric=sweep_metric(config), margin=margin))

    @property
    def table(self) -> pd.DataFrame:
        """A row a setting: its metric with a 95% interval, and its difference to the baseline."""
        import pandas as pd

        columns, rows = setting_rows(self.results)
        return pd.DataFrame(rows, columns=columns).set_index("label")

    @property
    def verdicts(self) -> pd.Series[str]:
        """``better``, ``worse``, ``same``, ``not resolved`` or ``one seed``, by setting."""
        import pandas as pd

        found = {each.setting: each.verdict for each in self.results.differences}
        return pd.Series(found, dtype=object, name=f"against {self.results.baseline}")

    def plot(self, what: str = "metric") -> Figure:
        """Return a figure: ``metric`` by setting, learning ``curves``, or losses by ``rates``."""
        require_choice("plot", what, PLOTS)
        with drawing():
            drawn = PLOTS[what](self.results)
        if drawn is None:
            raise UserError(f"plot={what}: these runs have no numbers for it.")
        return displayable(drawn)

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write the page, the tables and the plots into a folder; returns their paths."""
        require(isinstance(folder, str | os.PathLike), "folder", folder, "a path")
        return write_files(self.results, Path(folder))

    def __rich__(self) -> RenderableType:
        return render(self.results)

    def pictures(self) -> Iterator[Picture]:
        with drawing():
            yield from (picture(drawn) for draw in PLOTS.values() if (drawn := draw(self.results)))
