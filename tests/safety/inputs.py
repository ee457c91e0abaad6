"""Inputs of the worst kind, each by the name the tests call it."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from string import ascii_lowercase

import pyarrow as pa
import pyarrow.parquet as pq

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = [*ascii_lowercase, *(f"##{letter}" for letter in ascii_lowercase), "."]
TEXT = "\n\n".join(f"The cat number {n} sat. It saw {n} dogs! They ran." for n in range(40))
BERT = {
    "model_type": "bert",
    "vocab_size": len(SPECIAL) + len(LETTERS),
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 64,
}


class Trap:
    """What leaves a file behind if it is ever unpickled."""

    def __init__(self, sprung: Path) -> None:
        self._sprung = sprung

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (self._sprung,))


def trap_code(sprung: Path) -> str:
    """Return Python code that leaves a file behind if it is ever run."""
    return f"import pathlib\npathlib.Path({str(sprung)!r}).touch()\n"


def make(root: Path) -> None:
    """Write all inputs below ``root``; ``root / 'sprung'`` appears if one of them is executed."""
    root.mkdir(exist_ok=True)
    _texts(root)
    _tables(root)
    _vocabularies(root)
    _checkpoints(root)
    _code(root)
    _runs(root)


def _texts(root: Path) -> None:
    packed = gzip.compress(TEXT.encode())
    for name, content in {
        "good.txt": TEXT.encode(),
        "empty.txt": b"",
        "blank.txt": b" \n\t\n\r\n" * 9,
        "one.txt": b"One document, and no other.",
        "binary.txt": bytes(range(256)) * 9,
        "latin.txt": TEXT.encode() + "café".encode("latin-1"),
        "cut.txt": TEXT.encode() + "é".encode()[:1],
        "utf16.txt": TEXT.encode("utf-16-le"),
        "cut.gz": packed[:-30],
        "junk.gz": packed[:10] + b"\xff" * 99,
        "junk.bz2": bz2.compress(TEXT.encode())[:20] + b"junk" * 9,
        "cut.xz": lzma.compress(TEXT.encode())[:60],
        "two\nlines.txt": b"",
        "few.txt": b"a b c.\n\nc b a.\n\nb a c.",
    }.items():
        (root / name).write_bytes(content)
    (root / "folder").mkdir()
    (root / "a-run" / "model").mkdir(parents=True)
    for name in ("config.json", "tokenizer.json"):
        (root / "a-run" / "model" / name).write_text("{}")


def _tables(root: Path) -> None:
    fine = json.dumps({"text": "A fine line."}) + "\n"
    for name, line in {
        "cut": '{"text": "',
        "list": "[1]",
        "other": '{"body": "x"}',
        "number": '{"text": 3}',
        "digits": '{"text": ' + "9" * 9999 + "}",
        "half": r'{"text": "\ud800"}',
        "deep": "[" * 200_000,
        "long": '{"text": "' + "word " * 2_000_000,
    }.items():
        (root / f"{name}.jsonl").write_text(fine + line + "\n")
    whole = root / "numbers.parquet"
    pq.write_table(pa.table({"text": [1, 2], "title": ["a", "b"]}), whole)
    (root / "cut.parquet").write_bytes(whole.read_bytes()[:-20])
    (root / "junk.parquet").write_bytes(b"PAR1" + b"\xff" * 500 + b"PAR1")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), root / "rows0.parquet")
    pq.write_table(pa.table({"text": pa.array([None, None], pa.string())}), root / "nulls.parquet")


def _vocabularies(root: Path) -> None:
    for name, lines in {
        "vocab.txt": [*SPECIAL, *LETTERS],
        "plain-vocab.txt": LETTERS,
        "twice-vocab.txt": [*SPECIAL, *LETTERS, "a"],
        "gap-vocab.txt": [*SPECIAL, "", *LETTERS],
        "small-vocab.txt": [*SPECIAL, *LETTERS[:20]],
    }.items():
        (root / name).write_text("\n".join(lines) + "\n")
    (root / "empty-vocab.txt").write_bytes(b"")
    (root / "binary-vocab.txt").write_bytes(b"\xff\xfe\0[PAD]\n")
    (root / "junk.json").write_text("{")
    bpe = {"type": "BPE", "vocab": {"a": 0}, "merges": []}
    (root / "bpe.json").write_text(json.dumps({"version": "1.0", "model": bpe}))


def _checkpoints(root: Path) -> None:
    import torch
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    model = BertForMaskedLM(BertConfig(**BERT))
    whole = root / "bert"
    model.save_pretrained(whole)
    weights, config = whole / "model.safetensors", whole / "config.json"
    longest = struct.pack("<Q", 2**60)
    for name, what, content in (
        ("bert-cut", weights, weights.read_bytes()[:-1000]),
        ("bert-head", weights, longest + weights.read_bytes()[8:]),
        ("bert-empty", weights, b""),
        ("bert-junk", config, b"{"),
        ("bert-list", config, b"[]"),
        ("gpt", config, json.dumps({"model_type": "gpt2"}).encode()),
        ("bert-wide", config, json.dumps(BERT | {"hidden_size": 32}).encode()),
        ("bert-words", config, json.dumps(BERT | {"hidden_size": "sixteen"}).encode()),
        ("bert-odd", config, json.dumps(BERT | {"num_attention_heads": 3}).encode()),
    ):
        (root / name).mkdir()
        for path in (weights, config):
            (root / name / path.name).write_bytes(content if path == what else path.read_bytes())
    (root / "bert-no-weights").mkdir()
    (root / "bert-no-weights" / "config.json").write_text(json.dumps(BERT))
    (root / "bert-pickle").mkdir()
    (root / "bert-pickle" / "config.json").write_text(json.dumps(BERT))
    torch.save({"x": Trap(root / "sprung")}, root / "bert-pickle" / "pytorch_model.bin")


def _code(root: Path) -> None:
    code = trap_code(root / "sprung")
    maps = {
        "AutoConfig": "own.Own",
        "AutoModelForMaskedLM": "own.Own",
        "AutoTokenizer": ["own.Own", None],
    }
    remote = root / "remote-code"
    remote.mkdir()
    (remote / "own.py").write_text(code)
    (remote / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": maps}))
    (remote / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Own", "auto_map": maps})
    )
    script = root / "script"
    script.mkdir()
    (script / "script.py").write_text(code)
    pickled = root / "pickled"
    pickled.mkdir()
    (pickled / "train.pkl").write_bytes(pickle.dumps(Trap(root / "sprung")))
    hub = root / "hub"
    hub.mkdir()
    pq.write_table(pa.table({"text": TEXT.split("\n\n")}), hub / "train.parquet")


def _runs(root: Path) -> None:
    for name, config in {
        "run-junk": "seed: [",
        "run-list": "[1, 2]",
        "run-code": f"seed: !!python/object/apply:pathlib.Path.touch [{root / 'sprung'}]",
        "run-other": "seed: 0\nflavour: mint",
        "run-summary": "seed: 0",
    }.items():
        (root / name / ".hydra").mkdir(parents=True)
        (root / name / ".hydra" / "config.yaml").write_text(config)
    (root / "run-summary" / "summary.json").write_text("{")
