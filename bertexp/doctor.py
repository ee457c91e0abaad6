"""``python -m bertexp.doctor``: what is installed, where runs would go, and what would be slow."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bertexp.arguments import Parser
from bertexp.terminal import command
from bertexp.validation import UserError

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "accelerate", "hydra-core", "wandb")
# By the extra that installs it.
EXTRAS = {
    "tensorboard": "tensorboard",
    "trackio": "trackio",
    "joblib": "hydra_plugins.hydra_joblib_launcher",
    "slurm": "hydra_plugins.hydra_submitit_launcher",
    "optuna": "optuna",
    "workspace": "wandb_workspaces",
}
# Free bytes below which a disk is worth a remark.
LITTLE_SPACE = 5e9


@command()
def main() -> None:
    """Print the report, or empty the cache, then exit."""
    parser = Parser(
        prog="python -m bertexp.doctor", description="Looks at this machine.", allow_abbrev=False
    )
    parser.add_argument(
        "--clear-cache",
        action="store_true",
        help="remove prepared corpora, tokens and tokenizers; runs prepare them again",
    )
    _clear() if parser.parse_args().clear_cache else _report()


def _clear() -> None:
    from bertexp.console import size
    from bertexp.data.cache import cache_root, clear

    removed = clear()
    for kind, count in removed.items():
        print(f"{kind}: {size(count)}")
    print(f"removed {size(sum(removed.values()))} from {cache_root()}")


def _report() -> None:
    from bertexp.console import listed, show
    from bertexp.experiment.summary import versions
    from bertexp.training.setup import choose_device

    device = choose_device("auto")
    commit = (versions()["git_commit"] or "")[:12]
    where = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    rows = {
        "bertexp": ", ".join(filter(None, (versions()["bertexp"], commit, where))),
        "packages": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES),
        "extras": ", ".join(f"{name}{'' if _has(EXTRAS[name]) else ' missing'}" for name in EXTRAS),
        "device": _device(device),
        "W&B": _tracking(),
        "cache": _cache(),
        "slow": "\n".join(_slow(device)) or "nothing found",
    }
    show(listed(rows))


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _device(device: torch.device) -> str:
    import torch

    from bertexp.training.setup import DEFAULT_THREADS, mixed_precision

    on_cpu = device.type == "cpu"
    precision = {"no": "float32", "bf16": "bfloat16"}[mixed_precision("auto", on_cpu)]
    if on_cpu:
        return f"CPU, {os.cpu_count()} cores, {DEFAULT_THREADS} of them used; {precision}"
    names = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
    gpus = ", ".join(f"{each.name} ({each.total_memory / 2**30:.0f} GiB)" for each in names)
    return f"{gpus}; {precision}"


def _tracking() -> str:
    """Return what ``tracker.mode=auto`` would do, as far as that is known without a network."""
    import wandb

    settings = wandb.setup(settings=wandb.Settings(silent=True)).settings
    files = [*Path("outputs/wandb").glob("offline-run-*/*.wandb")]
    left = sum(not path.with_name(f"{path.name}.synced").exists() for path in files)
    waiting = f"; {left} offline in outputs/wandb, not uploaded from here" if left else ""
    if settings.mode != "online":
        return f"{settings.mode}, by your own setting{waiting}"
    if not wandb.login(prompt=False, verify=False):
        return f"no API key, so runs are tracked offline; `wandb login` changes that{waiting}"
    return f"a key for {settings.base_url}; online wherever it answers{waiting}"


def _cache() -> str:
    from bertexp.console import size
    from bertexp.data.cache import cache_root, stored

    kinds = sorted(stored().items(), key=lambda item: -item[1])
    parts = [f"{kind} {size(count)}" for kind, count in kinds if count]
    total = size(sum(count for _, count in kinds))
    largest = f" ({', '.join(parts[:4])})" if parts else ""
    return f"{cache_root()}: {total}{largest}"


def _slow(device: torch.device) -> Iterator[str]:
    """Yield what makes runs slow here, and what to do about it."""
    import psutil
    import torch

    from bertexp.training.compiler import check_compiler
    from bertexp.training.setup import DEFAULT_THREADS, mixed_precision

    if device.type == "cuda":
        try:
            check_compiler(device)
        except UserError as error:
            yield str(error)
    elif shutil.which("nvidia-smi"):
        yield f"an NVIDIA driver, but torch {torch.__version__} finds no GPU: another build of it?"
    if device.type == "cpu" and mixed_precision("auto", on_cpu=True) == "no":
        yield "this CPU has no fast bfloat16: training is in float32"
    cores = psutil.cpu_count(logical=False) or 1
    if device.type == "cpu" and cores > DEFAULT_THREADS:
        yield f"{DEFAULT_THREADS} of {cores} cores are used: OMP_NUM_THREADS, or hardware.threads"
    busy = psutil.getloadavg()[0]
    if busy > cores:
        yield f"other programs keep the cores busy: a load of {busy:.1f} on {cores}"
    yield from _little_space()


def _little_space() -> Iterator[str]:
    """Yield the disks of the cache and of the working folder that have little space left."""
    from bertexp.console import size
    from bertexp.data.cache import cache_root

    cache = cache_root().absolute()
    cache = next(folder for folder in (cache, *cache.parents) if folder.exists())
    for folder in {each.stat().st_dev: each for each in (Path.cwd(), cache)}.values():
        free = shutil.disk_usage(folder).free
        if free < LITTLE_SPACE:
            yield f"{size(free)} left on the disk of {folder}"


if __name__ == "__main__":
    main()
