"""What the commands do, from Python: the names of ``import bertexp``.

Everything that takes long to load is imported when it is used.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from bertexp.validation import UserError, require, require_margin

if TYPE_CHECKING:
    from bertexp.api.comparison import Comparison
    from bertexp.api.run import Run
    from bertexp.display import Printed


def run(*overrides: str, **keys: Any) -> Run:
    """Run an experiment as ``python -m bertexp`` does, and return it.

    Args:
        overrides: as on the command line: ``"task=nsp"``, ``"masking.prob=0.4"``.
        keys: the same as Python values: ``task="nsp"``, ``**{"masking.prob": 0.4}``.

    Raises:
        UserError: a mistake, in one line.
        KeyboardInterrupt: Ctrl-C or the kernel's interrupt; the run has saved its last step, and
            ``trainer.resume=FOLDER`` resumes it.
    """
    from bertexp.api.process import run_alone
    from bertexp.api.run import Run

    return Run(run_alone(overrides, keys))


def sweep(
    *overrides: str,
    until: Literal["resolved"] | None = None,
    margin: float | None = None,
    **keys: Any,
) -> Comparison:
    """Run a sweep as ``python -m bertexp -m`` does, and compare its runs.

    Args:
        overrides: as on the command line: ``"masking.prob=0.15,0.4"``.
        until: ``"resolved"``: seeds are added until every setting is better, worse or the same
            (``hydra/sweeper=resolve``).
        margin: differences within it, in the metric's unit, are the same for you.
        keys: the same as Python values, where a list is several: ``seed=[0, 1, 2]``.

    Raises:
        UserError: a mistake, in one line, or jobs failed.
        KeyboardInterrupt: Ctrl-C; the same call with the sweep's name, ``sweep=...``, resumes it.
    """
    from bertexp.api.comparison import Comparison
    from bertexp.api.process import run_sweep

    if margin is not None:
        require_margin("margin", margin)
    return Comparison.of_sweep(run_sweep(overrides, keys, until, margin), margin)


def load(path: str | os.PathLike[str], device: str = "auto") -> Run:
    """Return a run by its folder, one of its checkpoints, or any model.

    Args:
        path: a folder or a name on the Hub.
        device: where its model computes, as in ``hardware.device``.

    Raises:
        UserError: there is none.
    """
    from bertexp.api.run import Run

    return Run(path, device)


def compare(
    *paths: str | os.PathLike[str],
    metric: str | None = None,
    by: str | Sequence[str] = (),
    baseline: str | None = None,
    at: str | None = None,
    margin: float | None = None,
    evaluation: str | None = None,
) -> Comparison:
    """Compare runs as ``python -m bertexp.compare`` does.

    Args:
        paths: runs, folders of runs or sweeps, and patterns of such.
        metric: what to compare; None: ``eval/loss``, of several tokenizers or masking strategies
            ``eval/bits_per_byte``.
        by: keys that tell settings apart; none: all that differ but the seed.
        baseline: ``"KEY=VALUE"``, the setting to compare the others with; None: the one nearest to
            the defaults.
        at: compare where runs had spent as much: ``steps``, ``tokens``, ``predicted_tokens``,
            ``time`` or ``flops``.
        margin: differences within it, in the metric's unit, are the same for you.
        evaluation: compare by what ``bertexp.evaluate`` saved under this name.

    Raises:
        UserError: a mistake, in one line, or the runs are too different.
    """
    from bertexp.api.comparison import Comparison

    if not paths:
        raise UserError("compare: name runs, folders of runs or sweeps, or patterns of such.")
    for path in paths:
        allowed = "a run, a folder or a pattern; unpack a list: compare(*runs)"
        require(isinstance(path, str | os.PathLike), "compare", path, allowed)
    by = [by] if isinstance(by, str) else by
    chosen = {"metric": metric, "by": by, "baseline": baseline, "at": at, "margin": margin}
    return Comparison.of([os.fspath(path) for path in paths], evaluation, **chosen)


def inspect(*overrides: str, **keys: Any) -> Printed:
    """Look inside as ``python -m bertexp.inspect`` does; what it finds shows itself.

    Args:
        overrides, keys: as in ``run``, with ``what``, ``text``, ``run`` and so on.

    Raises:
        UserError: a mistake, in one line.
    """
    from bertexp.api.process import inspect_here

    return inspect_here(overrides, keys)
