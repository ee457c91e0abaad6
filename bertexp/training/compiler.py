"""Whether torch's inductor compiles the steps of a run."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
from typing import TYPE_CHECKING

import torch

from bertexp.families.compiling import forget_programs
from bertexp.objectives.learner import Learner
from bertexp.training.graphs import shape_of
from bertexp.training.plan import COMPILED_LENGTHS
from bertexp.validation import UserError

if TYPE_CHECKING:
    from bertexp.training.loop import Training

log = logging.getLogger(__name__)

# What ``hardware.compile=auto`` expects. On an H200 the first 350 steps, all of one shape, took 25
# (base) to 38 seconds (tiny) longer. Then a recorded step took 0.5 to 0.8 ms less (tiny) and 2.1 ms
# less (base), on 256 x 128 tokens 9 ms less (base), of which the products of forward and backward
# alone would take 2.6 and 21 ms (base) at the speed of a large matrix product.
SECONDS, SECONDS_PER_SHAPE = 15.0, 15.0
SAVED_SECONDS, SAVED_SHARE = 0.6e-3, 0.4
# The steps by whose shapes the number of programs is guessed.
SAMPLE = 16


def check_compiler(device: torch.device) -> None:
    """Raise a ``UserError`` if nothing can be compiled, or does not pay."""
    if reason := _obstacle(device):
        raise UserError(f"hardware.compile=true: {reason}.")


def choose_compiling(run: Training, learner: Learner) -> None:
    """Decide whether steps are compiled; batches then have fewer lengths.

    ``hardware.compile=auto`` compiles recorded steps if that saves more time than it takes. The
    expected savings depend on the steps that are left and on the model, not on how long earlier
    steps took.
    """
    config = run.config
    run.compiled = config.hardware.compile is True or (
        config.hardware.compile == "auto"
        and run.recorded
        and learner.family.compiles
        and _obstacle(run.accelerator.device) is None
        and _pays(run, learner)
    )
    if run.compiled:
        forget_programs()
        run.batches = run.batches.in_few_shapes(COMPILED_LENGTHS)


def _pays(run: Training, learner: Learner) -> bool:
    batches = run.batches.in_few_shapes(COMPILED_LENGTHS)
    steps = [batches[number] for number in batches.spread(SAMPLE)]
    takes = SECONDS + SECONDS_PER_SHAPE * len({shape_of(step) for step in steps})
    pace = run.pace() if run.budget.seconds is not None else 0.0
    end = run.budget.expected_steps(run.state, run.tokens_per_step, pace)
    left = end - run.state.step
    flops = sum(map(learner.flops, steps[0]))
    saved = SAVED_SECONDS + SAVED_SHARE * flops / run.machine_flops
    pays = left * saved > takes
    log.info(
        "hardware.compile=auto: %s; %d steps are left, each may take %.1f ms less, and compiling "
        "takes about %.0f s.",
        "compiling" if pays else "not compiling",
        left,
        1e3 * saved,
        takes,
    )
    return pays


def _obstacle(device: torch.device) -> str | None:
    if device.type != "cuda":
        return (
            f"is for NVIDIA and AMD GPUs, and this run is on {device.type}; on a CPU compiling "
            "took 48 to 125 s and made a step at most 4% faster"
        )
    if importlib.util.find_spec("triton") is None:
        return "needs the package triton, which this build of torch lacks"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "triton needs a C compiler, gcc or clang; none is found"
    return None
