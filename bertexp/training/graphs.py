"""Whole steps as CUDA graphs: a small model's step is launched at once, not kernel by kernel."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bertexp import group
from bertexp.objectives.batch import Batch
from bertexp.objectives.learner import Learner
from bertexp.training.config import MUON
from bertexp.training.step import Computed, compute_step
from bertexp.validation import UserError, first_line

if TYPE_CHECKING:
    from accelerate import Accelerator

    from bertexp.training.config import TrainingConfig
    from bertexp.training.loop import Training

log = logging.getLogger(__name__)

# Steps that are computed as usual first, so that all libraries are loaded and the optimizer has its
# state.
WARM_UP = 3
# The number of graphs that are kept; each holds the memory of its inputs.
KEPT = 64
# The number of graphs after which at most one in four steps is recorded, as recording takes longer
# than the step.
FIRST = 32

# Runs a function; returns a callable that repeats it, and its result.
Recorder = Callable[[Callable[[], Computed]], tuple[Callable[[], None], Computed]]


class CudaRecorder:
    """Records functions as CUDA graphs, which share their memory: one at a time is replayed."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()

    def __call__(self, function: Callable[[], Computed]) -> tuple[Callable[[], None], Computed]:
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            try:
                # Other threads, which pin batches, may allocate meanwhile.
                graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
                computed = function()
            finally:
                end_capture(graph)
        torch.cuda.current_stream().wait_stream(self._stream)
        return graph.replay, computed


def end_capture(graph: torch.cuda.CUDAGraph) -> None:
    """End a capture, even if the captured step failed.

    Raises:
        UserError: CUDA refuses it. Torch 2.11 does not notice that it has ended: from then on
            neither ``empty_cache`` nor an allocation that lacks memory works, and dropout fails.
    """
    try:
        graph.capture_end()
    except RuntimeError as error:
        cause = error.__context__ or error
        if not isinstance(cause, Exception):
            raise cause from None  # Ctrl-C, for example
        reason = first_line(cause)
        raise UserError(
            f"hardware.graphs: a step cannot be recorded ({reason}); use hardware.graphs=false."
        ) from error


@dataclass
class _Recording:
    """A recorded step, and where its inputs are."""

    inputs: list[Tensor]
    totals: dict[str, Tensor]
    replay: Callable[[], None]
    computed: Computed


class RecordedSteps:
    """Computes steps by replaying graphs, one for each shape of the step's batches.

    The first step of a shape is computed as usual, which may compile it; the second is recorded.
    The results are those of ``compute_step`` up to rounding. If ``auto`` chose to compile and that
    fails, or to record and memory is lacking, later steps do without.

    Args:
        record: by default as CUDA graphs.
    """

    def __init__(self, run: Training, record: Recorder | None = None) -> None:
        self._run, self._record = run, record or CudaRecorder()
        self._groups: list[dict[str, Any]] = run.optimizer.param_groups
        device = run.accelerator.device
        self._rates = [torch.zeros((), device=device) for _ in self._groups]
        self._seen = set[Hashable]()
        self._recordings: dict[Hashable, _Recording] = {}
        self._steps = self._made = 0
        run.compiled = run.compiled and "compile" not in run.unable

    def __call__(self, batches: list[Batch], totals: Mapping[str, int]) -> Computed:
        self._steps += 1
        shape = shape_of(batches)
        is_new = shape not in self._seen
        self._seen.add(shape)
        recording = self._recordings.pop(shape, None)
        waits = self._steps <= WARM_UP or self._made > FIRST + self._steps / 4
        if is_new or (recording is None and (waits or "graphs" in self._run.unable)):
            return self._compute(batches, totals)
        for rate, parameters in zip(self._rates, self._groups, strict=True):
            rate.fill_(parameters["lr"])
        if recording is None:
            try:
                recording = self._recorded(batches, totals)
            except Exception as error:
                if self._run.config.hardware.graphs is True or isinstance(error, UserError):
                    raise
                # Graphs hold memory.
                self._recordings.clear()
                self._run.optimizer.zero_grad()
                self._give_up("graphs", "recorded", error)
        if recording is None:
            # Out of the handler, which keeps the memory of what failed.
            return self._compute(batches, totals)
        # The last one used is the last one dropped.
        self._recordings[shape] = recording
        if len(self._recordings) > KEPT:
            del self._recordings[next(iter(self._recordings))]
        torch._foreach_copy_(recording.inputs, tensors_of(batches), non_blocking=True)
        for name, total in recording.totals.items():
            total.fill_(totals[name])
        recording.replay()
        return recording.computed.cloned()

    def _compute(self, batches: list[Batch], totals: Mapping[str, int]) -> Computed:
        run = self._run
        try:
            return compute_step(run, batches, totals)
        except Exception as error:  # compilers raise many types
            is_kept = not run.compiled or run.config.hardware.compile is True
            if is_kept or isinstance(error, UserError):
                raise
            failed = error
        run.compiled = False
        run.optimizer.zero_grad()
        # An error that is not the compiler's is raised again here, without a warning.
        computed = compute_step(run, batches, totals)
        self._give_up("compile", "compiled", failed)
        return computed

    def _give_up(self, key: str, what: str, error: Exception) -> None:
        self._run.unable.add(key)
        reason = first_line(error)
        log.warning("hardware.%s=auto: steps are not %s from now on: %s", key, what, reason)

    def _recorded(self, batches: list[Batch], totals: Mapping[str, int]) -> _Recording:
        self._made += 1
        device = self._run.accelerator.device
        own = [batch.mapped(torch.clone) for batch in batches]
        divisors = {name: torch.ones((), device=device) for name in totals}
        before = [(parameters["lr"], parameters["capturable"]) for parameters in self._groups]
        for rate, parameters in zip(self._rates, self._groups, strict=True):
            parameters |= {"lr": rate, "capturable": True}
        try:
            replay, computed = self._record(lambda: compute_step(self._run, own, divisors))
        finally:
            for parameters, (rate, capturable) in zip(self._groups, before, strict=True):
                parameters |= {"lr": rate, "capturable": capturable}
        return _Recording(tensors_of(own), divisors, replay, computed)


def can_record(config: TrainingConfig, accelerator: Accelerator, learner: Learner) -> bool:
    """Whether steps are recorded: on one GPU, and where the objectives allow it.

    Raises:
        UserError: they must be (``hardware.graphs=true``) and cannot be.
    """
    hardware, obstacle = config.hardware, _obstacle(config, accelerator, learner)
    if hardware.graphs is True and obstacle:
        raise UserError(f"hardware.graphs=true: {obstacle}; use hardware.graphs=auto.")
    return hardware.graphs is not False and not obstacle


def _obstacle(config: TrainingConfig, accelerator: Accelerator, learner: Learner) -> str | None:
    if accelerator.device.type != "cuda":
        return "needs a GPU"
    if group.size() > 1:
        return "is for one process"
    if accelerator.scaler is not None:
        return "is not for hardware.precision=fp16"
    if config.optimizer.name == MUON:
        return "is not for optimizer=muon, whose learning rate would be recorded as a number"
    names = [name for name, head in learner.heads.items() if not head.is_recordable]
    return f"steps of {names[0]} cannot be recorded" if names else None


def tensors_of(batches: list[Batch]) -> list[Tensor]:
    """Return all tensors of some batches, in an order of their own."""
    parts = [part for batch in batches for part in (batch, *batch.targets.values())]
    return [value for part in parts for value in vars(part).values() if isinstance(value, Tensor)]


def shape_of(batches: list[Batch]) -> Hashable:
    """Return what batches must have in common to be computed by one graph."""
    used = [(n, t.used.start, t.used.stop) if t.used else (n,)
            for batch in batches for n, t in batch.targets.items()]  # fmt: skip
    absent = [[name for name, value in vars(batch).items() if value is None] for batch in batches]
    shapes = tuple((tensor.shape, tensor.dtype) for tensor in tensors_of(batches))
    return shapes, tuple(used), str(absent)
