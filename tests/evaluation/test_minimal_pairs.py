"""Minimal pairs: read from files, chosen evenly, and scored as a loop with transformers does."""

from __future__ import annotations

import gzip
import json
import lzma
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import DATA
from transformers import BertConfig, BertLMHeadModel

from bertexp.config import Config
from bertexp.evaluation.grammar import Pair
from bertexp.evaluation.grammar.reading import check_source, read_pairs
from bertexp.evaluation.minimal_pairs import MinimalPairs, choose_pairs
from bertexp.experiment.prepare import Data
from bertexp.objectives.learner import Learner
from bertexp.validation import UserError

CPU = torch.device("cpu")
ROWS = [
    {"sentence_good": "the cat sleeps", "sentence_bad": "the cat sleep", "UID": "a"},
    {"sentence_good": "the cats sleep", "sentence_bad": "the cats sleeps", "UID": "a"},
]
PAIRS = [Pair(r["sentence_good"], r["sentence_bad"], "a", "a") for r in ROWS]


def written(rows: list[dict[str, Any]]) -> str:
    return "\n".join(map(json.dumps, rows))


@pytest.mark.parametrize(
    "name", ["pairs.jsonl", "pairs.jsonl.gz", "pairs.jsonl.xz", "pairs.parquet"]
)
@pytest.mark.parametrize("in_folder", [False, True])
def test_files_of_every_form_have_the_same_pairs(
    name: str, in_folder: bool, tmp_path: Path
) -> None:
    path = tmp_path / "below" / name
    path.parent.mkdir()
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        packers: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open}
        with packers.get(path.suffix, open)(path, "wt") as file:
            file.write(written(ROWS))
    source = str(tmp_path if in_folder else path)
    check_source(source)
    assert read_pairs(source) == PAIRS


def test_a_phenomenon_is_the_first_that_a_row_names_or_the_file(tmp_path: Path) -> None:
    plain = {"sentence_good": "a", "sentence_bad": "b"}
    rows = [plain | {"UID": "u", "linguistics_term": "l"}, plain | {"phenomenon": "p"}, plain]
    (tmp_path / "binding.extra.jsonl").write_text(written(rows))
    found = read_pairs(str(tmp_path))
    assert [(pair.phenomenon, pair.paradigm) for pair in found] == [
        ("l", "u"),
        ("p", "p"),
        ("binding", "binding"),
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, r"there is no file '.*pairs\.jsonl'"),
        ("", r"pairs\.jsonl' is empty\."),
        ('{"sentence_good": "a"}', r"pairs\.jsonl', row 1: has no text in sentence_bad; it has "),
        ('{"sentence_good": "a", "sentence_bad": 3}', r"row 1: has no text in sentence_bad"),
        ('{"sentence_good": "a", "sentence_bad": " "}', r"row 1: sentence_bad is blank\.$"),
        ('{"sentence_good": ', r"pairs\.jsonl', line 1 is not JSON"),
    ],
)
def test_what_is_no_pair_is_refused_in_one_line(
    content: str | None, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "pairs.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"^evaluation\.minimal_pairs: .*" + reason) as caught:
        read_pairs(str(path))
    assert "\n" not in str(caught.value)


def test_a_data_set_that_is_not_here_is_refused_without_a_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bertexp.data.hub.hub_answers", lambda: False)
    monkeypatch.setattr("bertexp.evaluation.grammar.reading.must_be_local", lambda name: True)
    with pytest.raises(UserError, match=r"^evaluation\.minimal_pairs=some/pairs: the Hugging Face"):
        check_source("some/pairs")


def test_a_folder_without_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the folder has no \.jsonl or \.parquet file\.$"):
        check_source(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "separator"),
    [("pairs.csv", ","), ("semi.csv", ";"), ("tabs.csv", "\t"), ("pairs.tsv", "\t")],
)
def test_other_tables_have_pairs_too(name: str, separator: str, tmp_path: Path) -> None:
    lines = [separator.join(row) for row in (ROWS[0], *(row.values() for row in ROWS))]
    (tmp_path / name).write_text("\n".join(lines))
    assert read_pairs(str(tmp_path / name)) == PAIRS


def test_pairs_are_chosen_evenly_and_fewer_are_a_subset() -> None:
    sizes = {"x": 50, "y": 20, "z": 3}
    every = [
        Pair(f"{p} {n}", "", "one" if p == "x" else "two", p)
        for p in sizes
        for n in range(sizes[p])
    ]
    assert {*choose_pairs(every, None)} == {*every}
    ten = choose_pairs(every, 10)
    assert Counter(pair.paradigm for pair in ten) == {"x": 9, "y": 8, "z": 3}
    assert {*choose_pairs(every, 4)} < {*ten}
    assert [pair.phenomenon for pair in ten] == ["one"] * 9 + ["two"] * 11
    # The choice in a paradigm does not depend on the others.
    assert {*choose_pairs([pair for pair in every if pair.paradigm == "x"], 9)} < {*ten}


def test_all_of_blimp_is_read() -> None:
    path = DATA / "blimp.jsonl.xz"
    if not path.exists():
        pytest.skip(f"needs the real data in {DATA}, which are not part of the project")
    pairs = read_pairs(str(path))
    assert len(pairs) == 67_000
    assert Counter(Counter(p.paradigm for p in pairs).values()) == {1000: 67}
    chosen = choose_pairs(pairs, 67)
    assert len(chosen) == 13 * 67
    assert {*Counter(pair.paradigm for pair in chosen).values()} == {13}
    assert len({pair.phenomenon for pair in chosen}) == 13


@pytest.fixture
def evaluator(cut_words: Callable[..., Data], tmp_path: Path, empty_cache: Path) -> MinimalPairs:
    """Pairs of sentences of the corpus, of which one has two words in the other order."""
    data = cut_words()
    document = next(iter(data.corpus.documents("validation")))
    words = " ".join(document.paragraphs).split()[:60]
    rows = [
        {
            "sentence_good": " ".join(words[at : at + 5]),
            "sentence_bad": " ".join(words[at + step] for step in (0, 1, 3, 2, 4)),
            "UID": "even" if at % 10 else "odd",
        }
        for at in range(0, 50, 5)
    ]
    (tmp_path / "pairs.jsonl").write_text(written(rows))
    source = data.evaluators[0].source
    keys = replace(source.config, minimal_pairs=str(tmp_path / "pairs.jsonl"))
    return MinimalPairs(replace(source, config=keys))


def score(model: Any, evaluator: MinimalPairs, text: str) -> float:
    """Return a text's log-likelihood, its words one piece after the other, from a loop."""
    tokenizer = evaluator.source.tokenizer
    words = [tokenizer.encode([word])[0] for word in text.split()]
    total = 0.0
    for at, word in enumerate(words):
        before = [index for each in words[:at] for index in each]
        after = [index for each in words[at + 1 :] for index in each]
        for piece, index in enumerate(word):
            seen = [*before, *word[:piece], *[tokenizer.mask_id] * (len(word) - piece), *after]
            row = torch.tensor([[tokenizer.opening_id, *seen, tokenizer.closing_id]])
            with torch.no_grad():
                logits_V = model(row).logits[0, 1 + len(before) + piece]
            total += logits_V.log_softmax(-1)[index].item()
    return total


def test_shares_are_those_of_a_loop_with_transformers(
    evaluator: MinimalPairs, untrained: Callable[..., Any], cut_words: Callable[..., Data]
) -> None:
    data = cut_words()
    assert (evaluator.places.end_N - evaluator.places.column_N > 1).any(), "words of several pieces"
    model = untrained(data).eval()
    right: dict[str, list[bool]] = {"even": [], "odd": []}
    for pair in evaluator.pairs:
        better = score(model, evaluator, pair.good) > score(model, evaluator, pair.bad)
        right[pair.phenomenon].append(better)
    model.train()  # the dropout has to be switched off
    found = dict(evaluator.measure(Learner(model, data.task.objectives), CPU))
    every = [*right["even"], *right["odd"]]
    assert 0 < sum(every) < len(every)
    assert found == {
        "eval/minimal_pairs": pytest.approx(sum(every) / len(every)),
        "eval/minimal_pairs/even": pytest.approx(sum(right["even"]) / len(right["even"])),
        "eval/minimal_pairs/odd": pytest.approx(sum(right["odd"]) / len(right["odd"])),
    }
    assert evaluator.reference.answered == {
        "eval/minimal_pairs": 10,
        "eval/minimal_pairs/even": 5,
        "eval/minimal_pairs/odd": 5,
    }
    assert {*evaluator.reference.yardsticks.values()} == {0.5}
    assert len({*evaluator.reference.fingerprints.values()}) == 3
    rows = evaluator.summary()["minimal_pairs"]
    assert [row["name"] for row in rows] == [*found]
    # The untrained model is the same for every run of an architecture.
    again = untrained(data).eval()
    for weight in again.parameters():
        torch.nn.init.zeros_(weight)
    assert dict(evaluator.measure(Learner(again, data.task.objectives), CPU)) != found
    both = zip(rows, evaluator.summary()["minimal_pairs"], strict=True)
    assert all(one["untrained"] == other["untrained"] for one, other in both)


def test_a_causal_model_prefers_what_a_decoder_finds_likelier(
    evaluator: MinimalPairs, cut_words: Callable[..., Data], untrained: Callable[..., Any]
) -> None:
    data, model = cut_words("task=clm"), untrained(cut_words()).eval()
    config = BertConfig.from_dict(model.config.to_dict() | {"is_decoder": True})
    decoder = BertLMHeadModel(config).eval()
    decoder.load_state_dict(model.state_dict())

    def likelihood(text: str) -> float:
        ids = torch.from_numpy(data.tokenizer.sequence(data.tokenizer.encode([text])[0]))[None]
        with torch.no_grad():
            scores = decoder(ids, use_cache=False).logits[0].log_softmax(-1)
        return float(scores[:-2].gather(1, ids[0, 1:-1, None]).sum())

    right = [likelihood(pair.good) > likelihood(pair.bad) for pair in evaluator.pairs]
    causal = MinimalPairs(replace(evaluator.source, task=data.task))
    found = dict(causal.measure(Learner(model, data.task.objectives), CPU))
    assert found["eval/minimal_pairs"] == pytest.approx(sum(right) / len(right))


def test_the_same_tokens_are_half_right(
    cut_words: Callable[..., Data], untrained: Callable[..., Any], tmp_path: Path, empty_cache: Path
) -> None:
    data = cut_words()
    text = next(iter(data.corpus.documents("validation"))).paragraphs[0][:30]
    (tmp_path / "a.jsonl").write_text(
        written([{"sentence_good": text, "sentence_bad": f" {text}  "}])
    )
    source = data.evaluators[0].source
    keys = replace(source.config, minimal_pairs=str(tmp_path))
    evaluator = MinimalPairs(replace(source, config=keys))
    found = dict(evaluator.measure(Learner(untrained(data), data.task.objectives), CPU))
    assert found == {"eval/minimal_pairs": 0.5, "eval/minimal_pairs/a": 0.5}


def test_the_same_tokens_are_half_right_whatever_the_rest_of_their_batch_does_to_the_scores(
    evaluator: MinimalPairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they do on some processors: each score is off by a different last bit."""
    keys = evaluator.source
    same = [Pair(pair.good, f" {pair.good}", "same", "same") for pair in evaluator.pairs]
    monkeypatch.setattr("bertexp.evaluation.minimal_pairs.pairs_of", lambda source: same)
    monkeypatch.setattr(
        "bertexp.evaluation.minimal_pairs.log_likelihoods",
        lambda learner, tokenizer, places, device: -1 - 1e-7 * places.text_N,
    )
    learner: Any = None
    assert MinimalPairs(keys)._right(learner, CPU).tolist() == [0.5] * len(same)


def test_unknown_tokens_are_warned_of_with_their_share(
    evaluator: MinimalPairs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert "which are not scored" not in caplog.text
    pairs = [Pair("\u4e2d \u4e2d", "\u4e2d", "word_order_of_some", "p")]
    monkeypatch.setattr("bertexp.evaluation.minimal_pairs.pairs_of", lambda source: pairs)
    MinimalPairs(evaluator.source)
    assert ": 100.0% of the tokens are [UNK], which are not scored" in caplog.text


def test_the_key_adds_the_evaluator(experiment_config: Callable[..., Config]) -> None:
    assert "minimal_pairs" not in experiment_config().evaluation.measured
    config = experiment_config("evaluation.minimal_pairs=x.jsonl", "evaluation.evaluators=[]")
    assert config.evaluation.measured == ["minimal_pairs"]
    with pytest.raises(UserError, match=r"^evaluation\.evaluators: minimal_pairs is added by "):
        experiment_config("evaluation.evaluators=[minimal_pairs]")
