"""Artefacts built in shards by several processes; a build that was killed resumes.

Shards depend on the text alone, so the result is the same for any number of processes.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bertexp.data.cache import cache_root, cached, fingerprint
from bertexp.signals import end_with_parent, ignore_signals
from bertexp.validation import UserError

Shard = TypeVar("Shard")
Build = Callable[[Shard, Path], None]

log = logging.getLogger(__name__)


def cached_in_shards(
    kind: str,
    key: Mapping[str, object],
    shards: Callable[[], Sequence[Shard]],
    build: Build[Shard],
    merge: Callable[[list[Path], Path], None],
    processes: int,
) -> Path:
    """Return the folder of an artefact like ``cached``, building it in shards if needed.

    Args:
        shards: returns the input of each shard, which must be picklable.
        build: writes the files of a shard into a folder; must be picklable.
        merge: writes the artefact's files from the folders of all shards, in order.

    Raises:
        UserError: the cache cannot be written, a shard is invalid, or its process was killed.
    """
    shelf = f"{kind}-shards/{fingerprint(key)}"

    def build_all(folder: Path) -> None:
        parts = shards()
        if done := len(list((cache_root() / shelf).glob("[!.]*"))):
            log.info("Resuming: %d of %d parts of the %s are done", done, len(parts), kind)
        merge(_build_shards(shelf, parts, build, processes), folder)

    final = cached(kind, key, build_all)
    shutil.rmtree(cache_root() / shelf, ignore_errors=True)
    return final


def _build_shards(
    shelf: str, shards: Sequence[Shard], build: Build[Shard], processes: int
) -> list[Path]:
    if processes == 1 or len(shards) == 1:
        return [_build_shard(shelf, *numbered, build) for numbered in enumerate(shards)]
    # A fork would copy locks that other threads of this process hold.
    context = multiprocessing.get_context("spawn")
    workers = min(processes, len(shards))
    with ProcessPoolExecutor(workers, context, _begin_worker, (build,)) as pool:
        try:
            futures = [pool.submit(_work, shelf, *numbered) for numbered in enumerate(shards)]
            return [future.result() for future in futures]
        except BrokenProcessPool as error:
            raise UserError(
                "A process that prepared data was killed, perhaps out of memory; the same "
                "command resumes where it stopped (hardware.num_workers=1: one process alone)."
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _build_shard(shelf: str, number: int, shard: Shard, build: Build[Shard]) -> Path:
    return cached(shelf, {"shard": number}, partial(build, shard))


# In a worker process: the build function, sent once for all shards.
_build: Build[Any]


def _begin_worker(build: Build[Any]) -> None:
    global _build
    _build = build
    ignore_signals(0)
    # The processes already use all cores.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    end_with_parent()


def _work(shelf: str, number: int, shard: Any) -> Path:
    return _build_shard(shelf, number, shard, _build)
