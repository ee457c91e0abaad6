"""Streaming: every block of the training text once a turn, from anywhere on, the same each time."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertexp.config import Config
from bertexp.data.corpora import Document
from bertexp.data.corpora.shard import identity
from bertexp.data.tokens import stream
from bertexp.data.tokens.encoding import TextEncoder
from bertexp.data.tokens.stream import DocumentStream, TokenStream
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.data.tokens.wordpiece import SPECIAL_TOKENS, bert_backend
from bertexp.experiment.prepare import prepare_data
from bertexp.objectives.examples import MaskedExamples
from bertexp.validation import UserError

WORDS = [f"w{number}" for number in range(2000)]
VOCABULARY = {word: number for number, word in enumerate([*SPECIAL_TOKENS, *WORDS])}
TOKENIZER = Tokenizer(bert_backend(VOCABULARY, lowercase=True))
BLOCK = 4

# Shards of documents of so many words.
SHARDS = st.lists(st.lists(st.integers(0, 30), max_size=6), min_size=1, max_size=4).filter(
    lambda shards: sum(map(sum, shards)) > 0
)


def number_documents(shards: list[list[int]]) -> list[list[Document]]:
    """Return documents whose words come nowhere else."""
    words = iter(WORDS)
    return [
        [Document("", [" ".join(next(words) for _ in range(size))]) for size in sizes]
        for sizes in shards
    ]


def open_stream(
    documents: list[list[Document]], blocks: int, notes: Path, *out: int
) -> TokenStream:
    shards = [partial(iter, part) for part in documents]
    source = DocumentStream(shards, frozenset(out), seed=3)
    return TokenStream(source, TextEncoder(TOKENIZER), BLOCK, blocks, notes)


def blocks_of(stream: TokenStream, number: int, blocks: int) -> list[tuple[int, ...]]:
    buffer = stream.buffer(number)
    ends = buffer.tokens.document_token_offsets
    cut = [
        tuple(buffer.tokens.tokens[start : min(start + BLOCK, last)].tolist())
        for first, last in pairwise(ends)
        for start in range(first, last, BLOCK)
    ]
    assert len(cut) >= buffer.first + blocks
    return cut[buffer.first : buffer.first + blocks]


@settings(deadline=None, max_examples=60)
@given(
    shards=SHARDS,
    blocks=st.integers(1, 9),
    # A document, a few, and more than any of these corpora has: several turns.
    chunk=st.sampled_from([1, 60, 1 << 13]),
    order=st.permutations(range(6)),
    lost=st.booleans(),
)
def test_every_block_comes_once_a_turn_and_from_anywhere_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    shards: list[list[int]],
    blocks: int,
    chunk: int,
    order: list[int],
    lost: bool,
) -> None:
    folder = tmp_path_factory.mktemp("notes")
    documents = number_documents(shards)
    expected = Counter(
        tuple(VOCABULARY[word] for word in words[start : start + BLOCK])
        for document in chain.from_iterable(documents)
        for words in [document.paragraphs[0].split()]
        for start in range(0, len(words), BLOCK)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "CHUNK_CHARACTERS", chunk)
        straight = open_stream(documents, blocks, folder / "a.jsonl")
        turns = 3
        found: list[tuple[int, ...]] = []
        for number in count():
            found += blocks_of(straight, number, blocks)
            if len(found) >= turns * expected.total():
                break
        for turn in range(turns):
            part = found[turn * expected.total() : (turn + 1) * expected.total()]
            assert Counter(part) == expected
        for number in order:
            if lost:
                (folder / "b.jsonl").unlink(missing_ok=True)
            # A new stream each time, as a run that goes on has.
            again = open_stream(documents, blocks, folder / "b.jsonl")
            once = blocks_of(again, number, blocks)
            assert once == blocks_of(straight, number, blocks)
            assert blocks_of(again, number + 1, blocks) == blocks_of(straight, number + 1, blocks)


def test_validation_documents_are_left_out_wherever_they_come(tmp_path: Path) -> None:
    documents = number_documents([[8, 8], [8, 8]])
    documents[1].append(documents[0][0])
    documents[1].append(Document("", documents[1][0].paragraphs, "validation"))
    reading = open_stream(documents, 6, tmp_path / "a", identity(documents[0][0]))
    counts = Counter(blocks_of(reading, 0, 6))
    assert len(counts) == 6 and counts.total() == 6
    assert not {VOCABULARY["w0"], VOCABULARY["w7"]} & {index for block in counts for index in block}


def test_turns_have_orders_of_their_own(tmp_path: Path) -> None:
    documents = number_documents([[BLOCK] for _ in range(8)])
    reading = open_stream(documents, 8, tmp_path / "a")
    turns = [tuple(blocks_of(reading, turn, 8)) for turn in range(4)]
    assert len(set(turns)) == 4
    assert len({tuple(sorted(turn)) for turn in turns}) == 1


def test_a_corpus_without_training_text_is_no_endless_loop(tmp_path: Path) -> None:
    documents = number_documents([[3]])
    with pytest.raises(UserError, match="no text to train on"):
        open_stream(documents, 1, tmp_path / "a", identity(documents[0][0])).buffer(0)


STREAMED = ("dataset.streaming=true", "trainer.epochs=null", "dataset.shuffle_buffer=48")


def write_parts(folder: Path) -> Iterator[str]:
    """Write the same 120 documents as text and as Parquet; yields their texts."""
    folder.joinpath("hub").mkdir()
    for part in range(3):
        texts = [
            f"The cat {n} sat on mat {n}. It saw {n * 7} dogs!"
            for n in range(part * 40, part * 40 + 40)
        ]
        folder.joinpath(f"{part}.txt").write_text("\n\n".join(texts))
        pq.write_table(
            pa.table({"text": texts}), folder / "hub" / f"train-0000{part}-of-00003.parquet"
        )
        yield from texts


def test_files_and_the_hub_stream_the_same_documents(
    experiment_config: Callable[..., Config],
    empty_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    texts = list(write_parts(tmp_path))
    small = (
        *STREAMED,
        "dataset.head_documents=40",
        "tokenizer.vocab_size=200",
        "trainer.max_steps=9",
    )
    hub = ("dataset=wikipedia", f"dataset.hub.path={tmp_path}/hub", "dataset.hub.config=null")
    seen: dict[str, set[str]] = {}
    for source in (hub, ("dataset=text", f"dataset.files=[{tmp_path}/*.txt]")):
        data = prepare_data(experiment_config(*small, *source, "dataset.validation_fraction=0.1"))
        assert data.corpus.sizes["train"].documents == 36
        held_out = {doc.paragraphs[0] for doc in data.corpus.documents("validation")}
        assert len(held_out) == 4
        examples: Any = data.examples
        assert isinstance(examples, MaskedExamples) and len(examples) == 48
        decoded: set[str] = set()
        for epoch in range(3):
            for row in examples.unmasked(np.arange(48), epoch):
                decoded.add(data.tokenizer.backend.decode(row.tolist(), skip_special_tokens=True))
        written = {
            data.tokenizer.backend.decode(data.tokenizer.encode([text])[0])
            for text in texts
            if text not in held_out
        }
        # 116 documents of a block each, in buffers of 48: three buffers have them all.
        assert decoded == written
        seen[source[0]] = decoded
    assert not list((tmp_path / "datasets").rglob("*.arrow")), "the Hub's data set was stored"


def test_a_streamed_run_goes_on_as_if_it_had_not_stopped(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    list(write_parts(tmp_path))
    arguments = (
        *("dataset=text", f"dataset.files=[{tmp_path}/*.txt]", *STREAMED, "tracker=none"),
        *("dataset.head_documents=40", "tokenizer.vocab_size=200", "model.hidden_size=16"),
        *("trainer.batch_size=16", "trainer.log_every=1", "evaluation.max_examples=4"),
        *("task.max_length=16", "scheduler=constant", "scheduler.warmup=0"),
    )

    def losses(folder: Path) -> dict[int, float]:
        rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        return {row["step"]: row["train/loss"] for row in rows if "train/loss" in row}

    whole = command(*arguments, "trainer.max_steps=12", "hydra.run.dir=run", folder=tmp_path)
    assert whole.code == 0, whole.lines
    half = command(*arguments, "trainer.max_steps=5", "hydra.run.dir=half", folder=tmp_path)
    assert half.code == 0, half.lines
    # Without its notes a run finds its place all the same, by reading again.
    shutil.rmtree(whole.cache / "streams")
    more = command("trainer.resume=half", "trainer.max_steps=12", folder=tmp_path)
    assert more.code == 0, more.lines
    assert len(losses(tmp_path / "run")) == 12
    assert losses(tmp_path / "half") == losses(tmp_path / "run")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("task=nsp", "task=nsp: must be a task of text such as mlm where dataset.streaming=true."),
        ("trainer.epochs=2", "trainer.epochs=2.0: must be null where dataset.streaming=true, and"),
        ("masking.dynamic=false", "masking.dynamic=false: must be true"),
        ("dataset.max_documents=9", "dataset.max_documents=9: must be null where"),
        ("dataset.shuffle_buffer=1", "dataset.shuffle_buffer=1: must be at least 2"),
    ],
)
def test_what_a_stream_cannot_do_is_said_in_one_line(
    experiment_config: Callable[..., Config], override: str, says: str
) -> None:
    with pytest.raises(UserError) as caught:
        experiment_config(*STREAMED, "trainer.max_steps=5", override)
    assert str(caught.value).startswith(says)
