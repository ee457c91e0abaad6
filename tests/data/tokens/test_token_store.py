"""The token store: what was written is what is read, once, whoever writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from forkserver import ForkServer
from hypothesis import given, settings
from hypothesis import strategies as st

from bertexp.config import Config
from bertexp.data.corpora import Document
from bertexp.data.tokens.encoding import TextEncoder
from bertexp.data.tokens.store import (
    LEVELS,
    TokenStore,
    prepare_tokens,
    split_sentences,
    write_shard,
)
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.data.tokens.wordpiece import SPECIAL_TOKENS, bert_backend

WORDS = 300
Store = Callable[..., TokenStore]


def number_words(words: Iterable[str]) -> tuple[dict[str, int], Tokenizer]:
    vocabulary = {word: index for index, word in enumerate([*SPECIAL_TOKENS, *words])}
    backend = bert_backend(vocabulary, lowercase=True)
    return vocabulary, Tokenizer(backend)


VOCABULARY, TOKENIZER = number_words(f"w{number}" for number in range(WORDS))

# A sentence as the numbers of its words; none at all is a blank sentence.
SENTENCES = st.lists(st.integers(0, WORDS - 1), max_size=6)
DOCUMENTS = st.lists(st.lists(st.lists(SENTENCES, max_size=4), max_size=4), max_size=6)


def as_lists(store: TokenStore) -> list[list[list[list[int]]]]:
    def cut(units: list, offsets: np.ndarray) -> list:
        return [units[a:b] for a, b in pairwise(offsets)]

    sentences = cut(store.tokens.tolist(), store.sentence_offsets)
    return cut(cut(sentences, store.paragraph_offsets), store.document_offsets)


@settings(deadline=None, max_examples=60)
@given(documents=DOCUMENTS, shards=st.integers(1, 3), chunk=st.sampled_from([1, 20, 1 << 20]))
def test_what_is_written_is_read_without_what_is_empty(
    tmp_path_factory: pytest.TempPathFactory,
    store_tokens: Store,
    documents: list,
    shards: int,
    chunk: int,
) -> None:
    texts = [
        [[" ".join(f"w{n}" for n in sentence) or "  " for sentence in par] for par in document]
        for document in documents
    ]
    expected = [[[s for s in par if s] for par in document] for document in documents]
    expected = [[par for par in document if par] for document in expected]
    expected = [document for document in expected if document]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bertexp.data.tokens.store.CHUNK_CHARACTERS", chunk)
        store = store_tokens(tmp_path_factory.mktemp("store"), texts, TOKENIZER, shards)
    first_word = VOCABULARY["w0"]
    found = [
        [[[n - first_word for n in sentence] for sentence in par] for par in document]
        for document in as_lists(store)
    ]
    assert found == expected
    assert store.tokens.dtype == np.uint16
    assert not store.tokens.flags.writeable
    assert (
        store.counts(WORDS + first_word).tolist()
        == np.bincount(store.tokens, minlength=WORDS + first_word).tolist()
    )
    ends = np.cumsum([sum(len(s) for par in document for s in par) for document in expected])
    assert store.document_token_offsets.tolist() == [0, *ends]


def test_ids_that_need_it_are_stored_in_four_bytes(tmp_path: Path) -> None:
    _, tokenizer = number_words(map(str, range(70_000)))

    class Corpus:
        fingerprint = "numbers"
        rows = (1,)

        def documents(self, split: str, files: list[int]) -> list[Document]:
            return [Document(split, ["3 69999"])]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERTEXP_CACHE", str(tmp_path))
        stores = prepare_tokens(Corpus(), tokenizer, None, "en")  # type: ignore[arg-type]
    assert stores["train"].tokens.dtype == np.uint32
    assert stores["train"].tokens.tolist() == [8, 70_004]


@settings(deadline=None)
@given(st.text(alphabet="ab .!?\n", max_size=60), st.sampled_from(["sentencex", "period", None]))
def test_splitting_loses_no_letter_and_gives_no_blank(paragraph: str, method: str | None) -> None:
    found = split_sentences(paragraph, method, "en")
    letters = [c for c in paragraph if c in "ab"]
    assert [c for c in "".join(found) if c in "ab"] == letters
    if method:
        assert all(sentence.strip() for sentence in found)
    if method == "period":
        assert all("." not in sentence for sentence in found)


def test_sentencex_knows_abbreviations_and_languages() -> None:
    english = "Dr. Smith met Mr. Jones at 3.5 p.m. today. They talked! Did it help?"
    found = [s.strip() for s in split_sentences(english, "sentencex", "en")]
    assert found[0].startswith("Dr. Smith met Mr. Jones at 3.5")
    assert found[-2:] == ["They talked!", "Did it help?"]
    japanese = split_sentences("これは本です。あれはペンです。", "sentencex", "ja")
    assert [s.strip() for s in japanese] == ["これは本です。", "あれはペンです。"]


PREPARE = """
import hashlib, sys, time
from pathlib import Path
from hydra import compose, initialize_config_dir
from bertexp.config import conf_dir, parse
from bertexp.data.corpora.corpus import prepare
from bertexp.data.tokens.store import prepare_tokens
from bertexp.data.tokens.training import train_tokenizer

with initialize_config_dir(str(conf_dir()), version_base="1.3"):
    config = parse(compose("config", overrides=sys.argv[2:]))
while not Path(sys.argv[1]).exists():
    time.sleep(0.001)
corpus = prepare(config.dataset)
tokenizer = train_tokenizer(config.tokenizer, corpus)
for split, store in prepare_tokens(corpus, tokenizer, "sentencex", "en").items():
    arrays = (store.tokens, store.sentence_offsets, store.paragraph_offsets, store.document_offsets)
    print(store.fingerprint, *(hashlib.md5(array.tobytes()).hexdigest() for array in arrays))
"""


def test_two_processes_that_prepare_at_once_both_succeed(
    forkserver: ForkServer, clean_environment: dict[str, str], tmp_path: Path
) -> None:
    go, overrides = (
        tmp_path / "go",
        ["dataset=synthetic", "dataset.synthetic.documents=300", "tokenizer.vocab_size=300"],
    )
    caches = [tmp_path / "shared", tmp_path / "shared", tmp_path / "own"]
    started = [
        forkserver.start(
            *("-c", PREPARE, str(go), *overrides),
            folder=tmp_path,
            environment=clean_environment | {"BERTEXP_CACHE": str(cache)},
        )
        for cache in caches
    ]
    go.touch()
    printed = []
    for process in started:
        assert process.end() == 0, process.errors
        printed.append(process.output)
    assert printed[0].count("\n") == 2
    assert printed[0] == printed[1] == printed[2]
    for kind in ("corpus", "tokenizer", "tokens"):
        (folder,) = (tmp_path / "shared" / kind).iterdir()
        assert not folder.name.startswith("."), "a half-built folder was left behind"


def test_what_was_prepared_is_found_again_and_what_differs_is_not(
    experiment_config: Callable[..., Config], empty_cache: Path
) -> None:
    from bertexp.experiment.prepare import prepare_data

    base = ("dataset=synthetic", "dataset.synthetic.documents=60", "tokenizer.vocab_size=128")
    first = prepare_data(experiment_config(*base))
    files = {path: path.stat().st_mtime_ns for path in empty_cache.rglob("*")}
    again = prepare_data(experiment_config(*base, "seed=3", "masking.prob=0.4"))
    assert again.tokens["train"].fingerprint == first.tokens["train"].fingerprint
    assert {path: path.stat().st_mtime_ns for path in empty_cache.rglob("*")} == files
    changes = (["tokenizer.lowercase=false"], ["tokenizer.vocab_size=100"], ["task=nsp"])
    others = [prepare_data(experiment_config(*base, *c)).tokens["train"] for c in changes]
    names = {first.tokens["train"].fingerprint, *(store.fingerprint for store in others)}
    assert len(names) == 4


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
@pytest.mark.parametrize("level", LEVELS)
def test_a_full_disk_is_noticed_at_the_last_byte(tmp_path: Path, level: str) -> None:
    (tmp_path / f"train.{level}").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        write_shard(tmp_path, "train", [[["w1 w2"]]], TextEncoder(TOKENIZER))
