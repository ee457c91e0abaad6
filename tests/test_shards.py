"""Preparation in shards: any number of processes gives the same, and a kill loses little."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from bertexp.config import Config
from bertexp.data.corpora import formats
from bertexp.data.corpora.corpus import CorpusStore, prepare
from bertexp.data.parallel import cached_in_shards
from bertexp.data.tokens.store import TokenStore, prepare_tokens
from bertexp.data.tokens.training import train_tokenizer
from bertexp.validation import UserError

# Of a shard, so that a small corpus has many.
BYTES = 3000


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of a hundred shards; some documents come twice."""
    path = tmp_path_factory.mktemp("text") / "corpus.txt"
    documents = (
        "\n".join(
            f"Paragraph {n % 997} of text {n % 1500}. It has {n} words!" for _ in range(1 + n % 3)
        )
        for n in range(4000)
    )
    path.write_text("\n\n".join(documents))
    return path


Prepare = Callable[[int], tuple[CorpusStore, dict[str, TokenStore]]]


@pytest.fixture
def prepare_by(
    experiment_config: Callable[..., Config],
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Prepare:
    """Return a function that prepares the text by some processes, in a cache of its own."""
    config = experiment_config(
        "dataset=text", f"dataset.files=[{text}]", "tokenizer.vocab_size=300"
    )

    def run(processes: int) -> tuple[CorpusStore, dict[str, TokenStore]]:
        monkeypatch.setenv("BERTEXP_CACHE", str(tmp_path / f"{processes}-{formats.PART_BYTES}"))
        corpus = prepare(config.dataset, processes)
        tokenizer = train_tokenizer(config.tokenizer, corpus)
        return corpus, prepare_tokens(corpus, tokenizer, "sentencex", "en", processes)

    return run


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_the_store_is_the_same_for_any_number_of_processes(
    prepare_by: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, whole_tokens = prepare_by(1)
    monkeypatch.setattr(formats, "PART_BYTES", BYTES)
    found = [prepare_by(processes) for processes in (1, 3)]
    for kind in ("corpus", "tokens"):
        folders = [list((tmp_path / f"{n}-{BYTES}" / kind).iterdir()) for n in (1, 3)]
        assert [len(folder) for folder in folders] == [1, 1]
        assert contents(folders[0][0]) == contents(folders[1][0])
        assert not list((tmp_path / f"3-{BYTES}" / f"{kind}-shards").iterdir())
    for corpus, tokens in found:
        assert len(corpus.rows) > 50
        assert (corpus.fingerprint, corpus.sizes) == (whole.fingerprint, whole.sizes)
        for split in ("train", "validation"):
            assert list(corpus.documents(split)) == list(whole.documents(split))
            assert tokens[split].fingerprint == whole_tokens[split].fingerprint
            for name in ("tokens", "sentence_offsets", "paragraph_offsets", "document_offsets"):
                array, other = getattr(tokens[split], name), getattr(whole_tokens[split], name)
                assert array.tobytes() == other.tobytes(), name


KILLED = """
import sys
from hydra import compose, initialize_config_dir
from bertexp.config import conf_dir, parse
from bertexp.data.corpora import formats
from bertexp.data.corpora.corpus import prepare
formats.PART_BYTES = int(sys.argv[1])
with initialize_config_dir(str(conf_dir()), version_base="1.3"):
    config = parse(compose("config", overrides=sys.argv[2:]))
prepare(config.dataset, 2)
"""


def test_after_a_kill_it_continues_where_it_stopped(
    prepare_by: Prepare,
    text: Path,
    tmp_path: Path,
    clean_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(formats, "PART_BYTES", BYTES)
    cache = tmp_path / f"2-{BYTES}"
    overrides = ["dataset=text", f"dataset.files=[{text}]", "tokenizer.vocab_size=300"]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(BYTES), *overrides],
        env=clean_environment | {"BERTEXP_CACHE": str(cache)},
    )
    while len(done := list(cache.glob("corpus-shards/*/[!.]*/manifest.json"))) < 5:
        assert process.poll() is None
        time.sleep(0.01)
    workers = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not psutil.wait_procs(workers, timeout=60)[1], "a worker outlived the process"
    assert not list(cache.glob("corpus/[!.]*")), "it was done before it was killed"
    inodes = {path.parent.joinpath("00000.arrow").stat().st_ino for path in done}
    corpus, tokens = prepare_by(2)
    kept = {path.stat().st_ino for path in corpus.folder.glob("*.arrow")}
    assert inodes <= kept, "a shard that was done was done again"
    assert [path.name for path in corpus.folder.parent.iterdir()] == [corpus.folder.name]
    expected, expected_tokens = prepare_by(1)
    assert contents(corpus.folder) == contents(expected.folder)
    assert tokens["train"].tokens.tobytes() == expected_tokens["train"].tokens.tobytes()


def _count(number: int, folder: Path) -> None:
    if number == 3:
        raise UserError("dataset.files: the third is wrong.")
    (folder / "number").write_text(str(number))


def _die(number: int, folder: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("build", "says"), [(_count, "third is wrong"), (_die, "was killed")])
def test_an_error_in_a_process_is_one_line(
    empty_cache: Path, build: Callable[[int, Path], None], says: str
) -> None:
    with pytest.raises(UserError, match=says) as caught:
        cached_in_shards("things", {}, lambda: range(6), build, lambda *_: None, processes=2)
    assert "\n" not in str(caught.value)
    assert not list((empty_cache / "things").iterdir())
