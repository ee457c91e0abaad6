"""Whatever is in a file or on the command line: it is read, or refused in one line."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bertexp.arguments import checked_arguments
from bertexp.config import Config, conf_dir, keys, parse
from bertexp.data.config import FORMATS
from bertexp.data.corpora import CORPORA
from bertexp.mistakes import explain
from bertexp.training.checkpoints import find_checkpoints
from bertexp.validation import UserError

REPEATED = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# Bytes with a chance to get past the first look.
PARTS = st.sampled_from(
    [
        *(b"\n", b"\n\n", b"\r", b"\r\n", b" = Title = \n", b" = = Section = = \n"),
        *(b'{"text": "', b'"}', b'{"text": null}', b'{"text": 1}', b"{}", b"[[[[", b"NaN"),
        *(b"PAR1", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\x00", b"\x00", b"\xff\xfe"),
        *(b"\xef\xbb\xbf", b"\\ud800", b"\xe2\x80\xa8", b"\x85\x1c\x0b", b"x" * 70_000),
        *("한국어 문장.".encode(), b"A sentence. Another one!"),
    ]
)
CONTENTS = st.lists(PARTS | st.binary(max_size=30), max_size=12).map(b"".join)


def parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": ["One text.", None, "Two\nlines."]}), sink)
    return sink.getvalue()


def changed(content: bytes) -> st.SearchStrategy[bytes]:
    """Draw a file that is cut off or has bytes of its own in the middle."""

    def change(at: int, length: int, new: bytes) -> bytes:
        return content[:at] + new + content[at + length :]

    places = st.integers(0, len(content))
    return st.builds(change, places, st.integers(0, 20) | places, st.binary(max_size=20))


def one_line(error: Exception) -> None:
    assert str(error).strip()
    assert "\n" not in str(error)


@REPEATED
@given(
    content=CONTENTS | changed(parquet()),
    form=st.sampled_from(FORMATS),
    errors=st.sampled_from(["strict", "replace"]),
)
def test_any_file_is_read_or_refused(
    experiment_config: Callable[..., Config],
    tmp_path: Path,
    content: bytes,
    form: str,
    errors: str,
) -> None:
    path = tmp_path / "any.file"
    path.write_bytes(content)
    config = experiment_config("dataset=text", "dataset.files=[any.file]").dataset
    config.files, config.format, config.errors = [str(path)], form, errors
    try:
        documents = list(CORPORA["text"](config).documents())
    except UserError as error:
        one_line(error)
        assert str(path) in str(error)
        return
    for document in documents:
        for paragraph in document.paragraphs:
            # What comes later writes it to Arrow.
            paragraph.encode()


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config")


ODD = ["", "null", "auto", "${seed}", "${nothing}", "${", "???", "../..", "\n", "\0"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
VALUES = JSON | st.sampled_from(ODD) | st.lists(st.sampled_from(ODD), max_size=3)
GROUPS = [*{key.rpartition(".")[0] for key in keys()} - {""}]


@settings(REPEATED, max_examples=100)
@given(st.dictionaries(st.sampled_from([*keys(), *GROUPS]), VALUES, min_size=1, max_size=3))
def test_any_value_of_any_key_is_taken_or_refused(
    composed: DictConfig, values: dict[str, Any]
) -> None:
    config = composed.copy()
    OmegaConf.set_struct(config, False)
    try:
        for key, value in values.items():
            OmegaConf.update(config, key, value, merge=False)
    except (OmegaConfBaseException, ValueError, TypeError):
        # OmegaConf itself does not take it; the command line has the next test.
        return
    try:
        parse(config)
    except UserError as error:
        one_line(error)


@settings(REPEATED, max_examples=40)
@given(
    st.sampled_from(["", "+", "++", "~"]),
    st.sampled_from([*keys(), *GROUPS, "no.such", "", "a b"]) | st.text(max_size=6),
    st.sampled_from(["=", "", "==", "@x="]),
    st.text(max_size=12)
    | st.sampled_from(["[", "{a", "'", '"', "1,2", "glob(*)", "${a", "\\", "a: b"]),
)
def test_any_override_is_taken_or_refused(sign: str, key: str, between: str, value: str) -> None:
    try:
        overrides = checked_arguments([f"{sign}{key}{between}{value}"])
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            parse(compose("config", overrides=overrides))
    except (HydraException, OmegaConfBaseException, ValueError, OSError) as error:
        # These the command line reports.
        assert explain(error).strip()
        assert "\n" not in explain(error)


PROGRESS = st.fixed_dictionaries({}, optional={"step": JSON | st.just(7), "best": JSON})


@settings(REPEATED, max_examples=200)
@given(
    progress=JSON | PROGRESS | st.binary(max_size=20),
    names=st.lists(
        st.sampled_from(["progress.json", "../../..", "/etc/passwd", "", ".", "\0", "model"]),
        max_size=3,
    ),
    name=st.sampled_from(["step-7", "step-", "step-x", "step-7.8", "step-7.pruned.2", "step-None"]),
    honest=st.booleans(),
)
def test_any_checkpoint_is_whole_or_passed_over(
    tmp_path: Path, progress: Any, names: list[str], name: str, honest: bool
) -> None:
    """Even one that somebody made up, with the sums that belong to it."""
    shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)
    folder = tmp_path / "checkpoints" / name
    folder.mkdir(parents=True)
    content = progress if isinstance(progress, bytes) else json.dumps(progress).encode()
    (folder / "progress.json").write_bytes(content)
    digests = {"progress.json": hashlib.blake2b(content).hexdigest()}
    digests |= {} if honest else dict.fromkeys(names, "0")
    (folder / "manifest.json").write_text(json.dumps(digests))
    for whole in find_checkpoints(tmp_path):
        assert isinstance(whole.step, int)
        assert whole.path.name == f"step-{whole.step}"
        assert whole.progress["best"] is None or isinstance(whole.progress["best"], int)
