"""Device and precision."""

from __future__ import annotations

import os

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.tracking import GeneralTracker
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    FullyShardedDataParallelPlugin,
)

from bertexp.training.compiler import check_compiler
from bertexp.training.config import HardwareConfig
from bertexp.training.machine import AUTOCAST_TYPES, keep_freed_memory
from bertexp.validation import UserError

# Torch's default: the physical cores, or OMP_NUM_THREADS.
DEFAULT_THREADS = torch.get_num_threads()


def build_accelerator(config: HardwareConfig, trackers: list[GeneralTracker]) -> Accelerator:
    """Return the accelerator for ``hardware.*``; the state of an earlier job is reset.

    Raises:
        UserError: no such GPU or precision, or compiling where it is impossible or does not pay.
    """
    forget_accelerator()
    device = choose_device(config.device)
    on_cpu = device.type == "cpu"
    # A GPU multiplies float32 in TF32; on a CPU "high" would mean something else.
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else "highest")
    # cuDNN plans its attention anew for every shape, and nearly every batch has its own: a step of
    # base on 64 sentence pairs took 485 ms on an H100 with it and 69 ms without.
    torch.backends.cuda.enable_cudnn_sdp(False)
    if on_cpu:
        keep_freed_memory()
    _check_possible(config, device)
    # All weights in one group: the heads use parts of modules, and only the learner's forward is
    # called.
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="no_wrap", cpu_ram_efficient_loading=False
    )
    accelerator = Accelerator(
        cpu=on_cpu,
        mixed_precision=mixed_precision(config.precision, on_cpu),
        log_with=trackers or None,
        fsdp_plugin=plugin if config.sharded else None,
        # Gradients are exchanged without copying them.
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
    )
    if config.sharded and on_cpu:
        _shard_on_cpu(accelerator, plugin)
    # Last: with several processes the accelerator sets it too.
    torch.set_num_threads(config.threads or DEFAULT_THREADS)
    return accelerator


def forget_accelerator() -> None:
    """Reset Accelerate's state, a singleton that the next run in this process would inherit."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def _shard_on_cpu(accelerator: Accelerator, plugin: FullyShardedDataParallelPlugin) -> None:
    # Accelerate ignores the plugin on a CPU, although FSDP works there.
    PartialState._shared_state["distributed_type"] = DistributedType.FSDP
    accelerator.state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = plugin


def _check_possible(config: HardwareConfig, device: torch.device) -> None:
    if config.compile is True:
        check_compiler(device)
    if config.graphs is True and device.type != "cuda":
        raise UserError(
            "hardware.graphs=true: is for NVIDIA and AMD GPUs, and this run is on "
            f"{device.type}; use hardware.graphs=auto."
        )
    here, found = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    if device.type == "cuda" and here > found:
        raise UserError(
            f"hardware.num_processes={config.num_processes}: {here} processes on this machine, of "
            f"which torch finds {found} GPUs; each needs its own."
        )


def choose_device(name: str) -> torch.device:
    """Return the device of ``hardware.device``.

    Raises:
        UserError: a GPU that is not there.
    """
    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "mps" and not has_mps:
        raise UserError("hardware.device=mps: torch finds no GPU of Apple's; use hardware=auto.")
    if name == "gpu" and not (has_cuda or has_mps):
        raise UserError(
            "hardware.device=gpu: torch finds no GPU; use hardware=auto or hardware=cpu."
        )
    if has_cuda and name in ("auto", "gpu"):
        return torch.device("cuda")
    # Nobody has measured a run on one of Apple's GPUs: only where it is named.
    return torch.device("mps" if name in ("mps", "gpu") else "cpu")


def autocast_type(config: HardwareConfig) -> torch.dtype | None:
    """Return the type of matrix products in training; None for float32."""
    precision = mixed_precision(config.precision, choose_device(config.device).type == "cpu")
    return AUTOCAST_TYPES.get(precision)


def mixed_precision(precision: str, on_cpu: bool) -> str:
    """Return Accelerate's name for ``hardware.precision``: "no", "bf16" or "fp16".

    Raises:
        UserError: a precision the device does not have.
    """
    if precision == "fp16" and on_cpu:
        raise UserError("hardware.precision=fp16: needs a GPU; on the CPU use fp32 or bf16.")
    if precision == "auto":
        return "bf16" if _has_fast_bf16(on_cpu) else "no"
    return "no" if precision == "fp32" else precision


def _has_fast_bf16(on_cpu: bool) -> bool:
    if on_cpu:
        can = torch.cpu.get_capabilities()
        return any(can.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
