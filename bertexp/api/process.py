"""Commands in this process, which is left as it was: for scripts, notebooks and W&B's agents."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from bertexp import group
from bertexp.arguments import quoted
from bertexp.cli import attempt, call, run_job
from bertexp.config import Config, RunConfig
from bertexp.console import collected, value_text
from bertexp.display import Printed
from bertexp.inspect.__main__ import LITERAL, as_hydra_reads, inspect
from bertexp.inspect.config import InspectConfig
from bertexp.mistakes import in_a_line, in_one_line
from bertexp.sweeps.sweeper import ResumableSweeper
from bertexp.terminal import FULL_ERROR
from bertexp.validation import UserError, is_mistake, require, require_choice

if TYPE_CHECKING:
    from bertexp.inspect.subject import Subject

# Groups that are not among the defaults: ``+size=smoke``.
_ADDED = ("size", "experiment", "search")
# Text that Hydra's grammar reads as it stands.
_PLAIN = re.compile(r"(?!(?:null|true|false|nan|inf)$)[A-Za-z_/][\w./-]*", re.IGNORECASE)
_DRY_RUN = re.compile(r"\+*trainer\.dry_run=(?!false$)", re.IGNORECASE)

# Threads take turns: arguments, logging and the state of Hydra and torch are the process's.
_turn = threading.RLock()


def run_alone(overrides: Sequence[str], keys: Mapping[str, Any]) -> Path:
    """Run one experiment; returns its folder."""
    folder = Path()

    def work(composed: DictConfig) -> float:
        nonlocal folder
        hydra = HydraConfig.get()
        folder = Path(hydra.runtime.output_dir)
        if hydra.sweeper.get("params"):
            raise UserError(f"{' '.join(hydra.overrides.task)}: is a sweep; use bertexp.sweep.")
        return run_job(composed, Config)

    arguments = ["hydra.mode=RUN", *_arguments(overrides, keys)]
    _call(arguments, "config", Config, work, log_level=logging.DEBUG)
    return folder


def run_sweep(
    overrides: Sequence[str], keys: Mapping[str, Any], until: str | None, margin: float | None
) -> Path:
    """Run a sweep; returns its folder."""
    resolve: list[str] = []
    if until is not None:
        require_choice("until", until, ["resolved"])
        resolve = ["hydra/sweeper=resolve", f"hydra.sweeper.margin={margin or 0.0}"]
    arguments = ["-m", *_arguments(overrides, keys, sweeps=True), *resolve]
    with _turn:  # another thread's sweep would be the last one
        _call(arguments, "config", Config, partial(run_job, schema=Config))
        assert ResumableSweeper.last is not None
        return ResumableSweeper.last


def inspect_here(overrides: Sequence[str], keys: Mapping[str, Any]) -> Printed:
    subjects: list[Subject] = []
    literal = {key: keys[key] for key in LITERAL if keys.get(key) is not None}
    for key, value in literal.items():
        require(isinstance(value, str | os.PathLike), key, value, "a string")
    others = {key: value for key, value in keys.items() if key not in literal}
    given = _arguments(overrides, others)
    given += [f"{key}={os.fspath(value)}" for key, value in literal.items()]
    with collected() as parts:
        _call(
            [as_hydra_reads(argument) for argument in given],
            *("inspect", InspectConfig),
            lambda composed: subjects.append(inspect(composed)),
            log_level=logging.DEBUG,
        )
    return Printed(parts, subjects[0].files)


def _arguments(
    overrides: Sequence[str], keys: Mapping[str, Any], *, sweeps: bool = False
) -> list[str]:
    """Return settings as on the command line; in a sweep a list is several values.

    Raises:
        UserError: one is an option, or asks for a dry run.
    """
    found = [*overrides]
    for key, value in keys.items():
        # An empty list is one value.
        values = (sweeps and _is_list(value) and [*value]) or [value]
        found.append(f"{'+' * (key in _ADDED)}{key}={','.join(map(written, values))}")
    for each in found:
        if not isinstance(each, str):
            raise UserError(f"{each!r}: is no setting; write 'task=nsp', task='nsp' or **settings.")
        if each.startswith("-"):
            raise UserError(f"{each}: is an option of the command; Python takes settings only.")
        if _DRY_RUN.match(each):
            raise UserError(f"{each}: leaves no run to return; use python -m bertexp.")
    return found


def written(value: Any) -> str:
    """Return a Python value as it is written on the command line."""
    if isinstance(value, str | os.PathLike):
        text = os.fspath(value)
        return text if _PLAIN.fullmatch(text) else quoted(text)
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{written(each)}' for key, each in value.items())}}}"
    return f"[{','.join(map(written, value))}]" if _is_list(value) else value_text(value)


def _is_list(value: Any) -> bool:
    return hasattr(value, "__iter__") and not isinstance(value, str | Mapping)


def _call(
    arguments: list[str],
    config_name: str,
    schema: type[RunConfig],
    work: Callable[[DictConfig], Any],
    log_level: int = logging.ERROR,
) -> None:
    """Call ``work`` with what the arguments compose, for each job of a sweep.

    Args:
        log_level: that of the message about a failed job.

    Raises:
        UserError: a mistake, or jobs of a sweep failed.
        KeyboardInterrupt: a signal stopped it.
    """
    if group.was_launched():
        raise UserError(
            "torchrun: from Python a run starts its processes itself; set hardware.num_processes."
        )
    failures: list[Exception] = []

    def job(composed: DictConfig) -> Any:
        return attempt(partial(work, composed), composed, failures, level=log_level)

    with _turn, _unchanged([f"bertexp.{config_name}", *arguments]), in_one_line(schema):
        call(config_name, schema, job)
    for failure in failures:
        if is_mistake(failure):
            raise UserError(in_a_line(failure)) from None
        raise failure


@contextmanager
def _unchanged(arguments: list[str]) -> Iterator[None]:
    """Set the arguments of this process within a ``with`` block, then everything back."""
    argv, full_error = sys.argv, os.environ.get(FULL_ERROR)
    hydra, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    sys.argv = arguments
    try:
        with _own_main_module(), _own_log(), _own_torch():
            yield
    finally:
        sys.argv = argv
        os.environ.pop(FULL_ERROR, None)
        if full_error is not None:
            os.environ[FULL_ERROR] = full_error
        GlobalHydra.instance().hydra = hydra


@contextmanager
def _own_main_module() -> Iterator[None]:
    """Keep new processes from importing the user's script, which would start the run again."""
    main: dict[str, Any] = vars(sys.modules["__main__"])
    names = [name for name in ("__file__", "__spec__") if name in main]
    before: dict[str, Any] = {name: main.pop(name) for name in names}
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(before)


@contextmanager
def _own_log() -> Iterator[None]:
    """Give the root logger its own handlers back, and close those of the run."""
    root, ours, raises = logging.getLogger(), logging.getLogger("bertexp"), logging.raiseExceptions
    handlers, levels = [*root.handlers], (root.level, ours.level)
    try:
        yield
    finally:
        for handler in [*root.handlers]:
            root.removeHandler(handler)
            if handler not in handlers:
                handler.close()
        for handler in handlers:
            root.addHandler(handler)
        root.setLevel(levels[0])
        ours.setLevel(levels[1])
        logging.raiseExceptions = raises


@contextmanager
def _own_torch() -> Iterator[None]:
    """Give torch its threads, precision and generators back, and forget the accelerator."""
    import torch

    from bertexp.training.setup import forget_accelerator

    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    with_cudnn = torch.backends.cuda.cudnn_sdp_enabled()
    devices = [*range(torch.cuda.device_count())] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_float32_matmul_precision(precision)
            torch.backends.cuda.enable_cudnn_sdp(with_cudnn)
            forget_accelerator()
