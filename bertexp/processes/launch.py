"""Runs an experiment: in this process, in several that it starts, or in those that are there."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from omegaconf import DictConfig, OmegaConf

from bertexp import group, plugins
from bertexp.config import RunConfig
from bertexp.experiment.invocation import Invocation, Job
from bertexp.experiment.resuming import Resume
from bertexp.processes.failure import Failure
from bertexp.signals import STOPPING, Interrupted, Signals, end_with_parent
from bertexp.terminal import tolerant
from bertexp.training.config import HardwareConfig
from bertexp.validation import UserError

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

# How long the processes that are left may take to end when one has failed.
SECONDS_TO_END = 15


@dataclass(frozen=True)
class Errand:
    """What the processes of a run are to do, as it is handed to each of them.

    Attributes:
        config, resolved: the configuration, typed and as plain values.
        folder, resume, job: see ``Invocation``.
        log: how Hydra was told to log.
        plugins: what registers itself.
    """

    config: RunConfig
    resolved: dict[str, Any]
    folder: Path
    resume: Resume
    job: Job | None
    log: DictConfig
    plugins: list[str]

    def run(self, signals: Signals) -> float:
        """Run the experiment in this process, one of several; returns the final ``eval/loss``.

        Raises:
            Interrupted: a signal has come, to this process or to one of the others.
            Exception: the first error that one of them had.
        """
        from bertexp.experiment.main import run_experiment

        plugins.load(self.plugins)
        invocation = Invocation(self.folder, self.resume, signals, self.job)
        try:
            return run_experiment(self.config, self.resolved, invocation)
        except (Interrupted, Exception) as error:
            failure = Failure.known()
            if failure is None and not isinstance(error, Interrupted):
                # Those that are told to stop at once can no longer reach each other.
                signals.check()
                failure = Failure.first(error)
            if failure is None or failure.rank == group.rank():
                raise
            failure.raise_here()


def run(config: RunConfig, resolved: dict[str, Any], invocation: Invocation) -> float:
    """Run an experiment in as many processes as it is to have; returns the final ``eval/loss``.

    Raises:
        UserError: something the user can mend.
        Interrupted: a signal has come; the run can go on from where it is.
    """
    alone = number_to_start(config.hardware) == 1 and not config.hardware.sharded
    if alone and not group.was_launched():
        # Not before: those that are started import it themselves.
        from bertexp.experiment.main import run_experiment

        return run_experiment(config, resolved, invocation)
    log: Any = OmegaConf.to_container(HydraConfig.get().job_logging, resolve=True)
    folder, resume, job = invocation.folder, invocation.resume, invocation.job
    log = OmegaConf.create(log)
    errand = Errand(config, resolved, folder, resume, job, log, plugins.loaded())
    if group.was_launched():
        return group.from_first(errand).run(invocation.signals)
    return _start(number_to_start(config.hardware), errand, invocation.signals)


def number_to_start(hardware: HardwareConfig) -> int:
    """Return how many processes ``hardware.num_processes`` means on this machine."""
    if hardware.num_processes is not None:
        return hardware.num_processes
    import torch

    return max(1, 0 if hardware.device == "cpu" else torch.cuda.device_count())


def follow() -> int:
    """Do what the first of the processes that are there says; returns the exit code."""
    logging.getLogger().addHandler(logging.NullHandler())
    with Signals() as signals:
        try:
            errand: Errand = group.from_first(None)  # type: ignore[assignment]
        except RuntimeError:
            # The first one ended before it came to that, and has said why.
            return 0
        try:
            errand.run(signals)
        except Interrupted as interruption:
            return interruption.code
        except Exception as error:
            failure = Failure.first(error)
            if failure.rank == group.rank():
                told = failure.message if failure.is_mistake else failure.traceback
                print(f"error: {told}", file=sys.stderr, flush=True)
            return 1
    return 0


def _start(number: int, errand: Errand, signals: Signals) -> float:
    """Run an errand in new processes of this machine, see ``run``."""
    if not hasattr(os, "setpgrp"):
        raise UserError(
            f"hardware.num_processes={number}: several processes need Linux or macOS; use 1."
        )
    import torch
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    def launch() -> dict[int, _End]:
        # The new processes inherit this: none dies of a signal before it can handle it.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        return elastic_launch(config, _take_part)(errand)

    def workers() -> list[int]:
        return [child.pid for child in multiprocessing.active_children() if child.pid]

    threads = max(1, torch.get_num_threads() // number)
    with (
        tempfile.TemporaryDirectory(prefix="bertexp-") as scratch,
        _environment(OMP_NUM_THREADS=threads, TORCH_ELASTIC_SHUTDOWN_TIMEOUT=SECONDS_TO_END),
        _quiet(),
        # A thread, so that elastic_launch leaves the signals to this one.
        ThreadPoolExecutor(1) as thread,
        signals.handed_on(workers),
    ):
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=number,
            run_id=errand.folder.name,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=scratch),
        )
        try:
            ends = thread.submit(launch).result()
        except ChildFailedError as error:
            signals.check()
            _explain(*error.get_first_failure(), number)
    if ends[0].signal:
        raise Interrupted(ends[0].signal)
    assert ends[0].objective is not None
    return ends[0].objective


@dataclass(frozen=True)
class _End:
    """How a process ended: with the final ``eval/loss``, or by a signal."""

    objective: float | None
    signal: int | None = None


class _Told(Exception):
    """A failure, as the text that torch's launcher carries to whoever started the process."""


def _take_part(errand: Errand) -> _End:
    """Do an errand as one of the processes that ``_start`` has started."""
    # Ctrl-C in a terminal goes to all of its group; this one gets it from the process above, and
    # dies with it: with it the claim on the folder ends.
    os.setpgrp()
    end_with_parent()
    with tolerant(), Signals() as signals:
        try:
            group.join()
            if group.is_first():
                configure_log(errand.log)
            else:
                logging.getLogger().addHandler(logging.NullHandler())
            return _End(errand.run(signals))
        except Interrupted as interruption:
            return _End(None, interruption.code - 128)
        except Exception as error:
            raise _Told(Failure.first(error).text()) from None
        finally:
            group.leave()


def _explain(rank: int, failure: ProcessFailure, number: int) -> NoReturn:
    """Raise what a process has died of."""
    said = failure.error_file_data["message"]
    if isinstance(said, dict):
        Failure.read(said["message"].removeprefix(f"{_Told.__name__}: ")).raise_here()
    if failure.exitcode < 0:
        raise UserError(
            f"process {rank} of {number} was ended by {failure.signal_name()}, perhaps for want "
            "of memory."
        ) from None
    raise RuntimeError(f"process {rank} of {number} ended with exit code {failure.exitcode}")


@contextmanager
def _environment(**numbers: int) -> Iterator[None]:
    """Set variables for the processes that are started in a ``with`` block."""
    before = {name: os.environ.get(name) for name in numbers}
    os.environ.update({name: str(number) for name, number in numbers.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's launcher from telling in pages what is said in a line afterwards."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
