"""What the tests of corpora share: a configuration from ``conf/``, and a cache of their own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from bertexp.data.config import DatasetConfig
from bertexp.registry import with_own_keys

ROOT = Path(__file__).parents[3]
Configure = Callable[..., DatasetConfig]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("BERTEXP_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def configure() -> Configure:
    """Return a function that composes ``dataset=option`` with keys, as the command line does."""

    @functools.cache
    def composed(option: str) -> DictConfig:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return compose(overrides=[f"+dataset={option}"]).dataset

    def compose_dataset(option: str, **changes: object) -> DatasetConfig:
        schema = OmegaConf.structured(with_own_keys(DatasetConfig, "dataset"))
        return OmegaConf.to_object(OmegaConf.merge(schema, composed(option), changes))

    return compose_dataset


@pytest.fixture(scope="session")
def wiki_file() -> Path:
    path = ROOT.parent / "shared" / "data" / "wiki.test.raw"
    if not path.exists():
        pytest.skip(f"needs the real data in {path.parent}, which are not part of the project")
    return path
