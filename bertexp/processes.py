"""Runs an experiment in this process, in several that it starts, or in those of ``torchrun``.

It starts them by ``elastic_launch``: ``torchrun`` without its command line, which prints a page
for every error and exits with code 1 on every signal.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from omegaconf import DictConfig, OmegaConf

from bertexp import group, plugins
from bertexp.config import RunConfig
from bertexp.experiment.invocation import Invocation
from bertexp.group import Failure
from bertexp.signals import STOPPING, Interrupted, Signals, end_with_parent
from bertexp.terminal import tolerant
from bertexp.training.config import HardwareConfig
from bertexp.validation import UserError

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
    from torch.distributed.launcher.api import LaunchConfig

# How long the other processes may take to end when one has failed.
SECONDS_TO_END = 15


@dataclass(frozen=True)
class _Shared:
    """A run as it is sent to each of its processes.

    Attributes:
        invocation: without the signals, which each process adds.
        log: Hydra's configuration of logging.
    """

    config: RunConfig
    resolved: dict[str, Any]
    invocation: Callable[[Signals], Invocation]
    log: DictConfig
    plugins: list[str]

    def run(self, signals: Signals) -> float:
        """Run the experiment in this process, one of several; returns the final ``eval/loss``.

        Raises:
            Interrupted: this process or another has received a signal.
            Exception: the first error of all processes.
        """
        from bertexp.experiment.main import run_experiment

        plugins.load(self.plugins)
        try:
            return run_experiment(self.config, self.resolved, self.invocation(signals))
        except (Interrupted, Exception) as error:
            failure = Failure.known()
            if failure is None and not isinstance(error, Interrupted):
                # Processes that a signal stops at once can no longer reach each other.
                signals.check()
                failure = Failure.first(error)
            if failure is None or failure.rank == group.rank():
                raise
            failure.raise_here()


def run(config: RunConfig, resolved: dict[str, Any], invocation: Invocation) -> float:
    """Run an experiment in one or several processes; returns the final ``eval/loss``.

    Raises:
        UserError: something the user can fix.
        Interrupted: a signal was received; the run can be resumed.
    """
    number = number_to_start(config.hardware)
    if number == 1 and not config.hardware.sharded and not group.was_launched():
        # Not at the top: processes that are started import it themselves.
        from bertexp.experiment.main import run_experiment

        return run_experiment(config, resolved, invocation)
    begun = partial(Invocation, invocation.folder, invocation.resume, job=invocation.job)
    log: Any = OmegaConf.to_container(HydraConfig.get().job_logging, resolve=True)
    shared = _Shared(config, resolved, begun, OmegaConf.create(log), plugins.loaded())
    if group.was_launched():
        return group.from_first(shared).run(invocation.signals)
    return _start(number, shared, invocation)


def number_to_start(hardware: HardwareConfig) -> int:
    if hardware.num_processes is not None:
        return hardware.num_processes
    import torch

    return max(1, 0 if hardware.device == "cpu" else torch.cuda.device_count())


def follow() -> int:
    """Run the experiment that the first of torchrun's processes sends; returns the exit code."""
    logging.getLogger().addHandler(logging.NullHandler())
    with Signals() as signals:
        try:
            shared: _Shared = group.from_first(None)  # type: ignore[assignment]
        except RuntimeError:
            # The first one ended before it sent an experiment, and has printed why.
            return 0
        try:
            shared.run(signals)
        except Interrupted as interruption:
            return interruption.code
        except Exception as error:
            failure = Failure.first(error)
            if failure.rank == group.rank():
                text = failure.message if failure.is_mistake else failure.traceback
                print(f"error: {text}", file=sys.stderr, flush=True)
            return 1
    return 0


def _start(number: int, shared: _Shared, invocation: Invocation) -> float:
    if not hasattr(os, "setpgrp"):
        raise UserError(
            f"hardware.num_processes={number}: several processes need Linux or macOS; use 1."
        )
    if multiprocessing.get_start_method(allow_none=True) == "loky":
        # In a worker of joblib's, whose start method is unknown to new processes.
        multiprocessing.set_start_method("spawn", force=True)
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    def launch() -> dict[int, float | signal.Signals]:
        # New processes inherit this, so that no signal kills them before they can handle it.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        return elastic_launch(config, _take_part)(shared)

    def workers() -> list[int]:
        return [child.pid for child in multiprocessing.active_children() if child.pid]

    with (
        tempfile.TemporaryDirectory(prefix="bertexp-") as scratch,
        _surroundings(number),
        # A thread, so that elastic_launch leaves the signals to this one.
        ThreadPoolExecutor(1) as thread,
        invocation.signals.handed_on(workers),
    ):
        config = _launch_config(number, invocation.folder.name, scratch)
        try:
            result = thread.submit(launch).result()[0]
        except ChildFailedError as error:
            invocation.signals.check()
            _explain(*error.get_first_failure(), number)
    if isinstance(result, signal.Signals):
        raise Interrupted(result)
    return result


def _launch_config(number: int, name: str, scratch: str) -> LaunchConfig:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=number,
        run_id=name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=scratch),
    )


class _Failed(Exception):
    """A failure, as text: torch passes it to the process that started the others."""


def _take_part(shared: _Shared) -> float | signal.Signals:
    """Return the final ``eval/loss``, or the signal that stopped the run."""
    # Ctrl-C in a terminal is sent to its whole process group; this process receives signals from
    # its parent alone. It ends with its parent, whose lock on the run's folder ends then.
    os.setpgrp()
    end_with_parent()
    with tolerant(), Signals() as signals:
        try:
            group.join()
            if group.is_first():
                configure_log(shared.log)
            else:
                logging.getLogger().addHandler(logging.NullHandler())
            return shared.run(signals)
        except Interrupted as interruption:
            return signal.Signals(interruption.code - 128)
        except Exception as error:
            raise _Failed(Failure.first(error).text()) from None
        finally:
            group.leave()


def _explain(rank: int, failure: ProcessFailure, number: int) -> NoReturn:
    message = failure.error_file_data["message"]
    if isinstance(message, dict):
        Failure.read(message["message"].removeprefix(f"{_Failed.__name__}: ")).raise_here()
    if failure.exitcode < 0:
        raise UserError(
            f"process {rank} of {number} was ended by {failure.signal_name()}, possibly out "
            "of memory."
        ) from None
    raise RuntimeError(f"process {rank} of {number} ended with exit code {failure.exitcode}")


@contextmanager
def _surroundings(number: int) -> Iterator[None]:
    """Give new processes their share of the cores, and keep torch from logging pages of errors."""
    import torch

    level = logging.root.manager.disable
    ours = {
        "OMP_NUM_THREADS": max(1, torch.get_num_threads() // number),
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": SECONDS_TO_END,
    }
    before = {name: os.environ.pop(name, None) for name in ours}
    os.environ.update({name: str(value) for name, value in ours.items()})
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(level)
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value
