"""Tokenizers that exist are kept as they were read; what cannot be kept is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertTokenizer,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaTokenizer,
)

from bertexp.data.tokens.roles import to_transformers
from bertexp.data.tokens.saved import open_tokenizer
from bertexp.data.tokens.tokenizer import Roles, Tokenizer
from bertexp.data.tokens.wordpiece import SPECIAL_TOKENS, train_wordpiece
from bertexp.validation import UserError

WORDS = ["the", "cat", "##s", "s", "a", ".", "é", "e", "-", "no", "no-one", "E", "x", "##x"]
TEXTS = ["The cats, no-one.", "<ent> É e Éa", "[E1] xxx xxxxxx cat", "silver lantern [MASK]", ""]


def backend(
    prefix: str = "##",
    longest: int = 100,
    normalizer: normalizers.Normalizer | None = None,
    pre_tokenizer: pre_tokenizers.PreTokenizer | None = None,
    special: tuple[str, ...] = SPECIAL_TOKENS,
) -> Backend:
    words = [word.replace("##", prefix) for word in WORDS]
    vocabulary = {token: index for index, token in enumerate([*special, *words])}
    made = Backend(
        models.WordPiece(
            vocabulary,
            unk_token=special[1],
            continuing_subword_prefix=prefix,
            max_input_chars_per_word=longest,
        )
    )
    made.normalizer = normalizer or normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizer or pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece(prefix=prefix)
    made.add_special_tokens([*special])
    return made


def with_added(made: Backend) -> Backend:
    made.add_tokens(["<ent>", "silver lantern"])
    made.add_special_tokens(["[E1]"])
    return made


KINDS: dict[str, Callable[[], Backend]] = {
    "plain": backend,
    "added": lambda: with_added(backend()),
    "prefix": lambda: backend(prefix="@@"),
    "longest word": lambda: backend(longest=3),
    "accents": lambda: backend(
        normalizer=normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    ),
    "normalizer": lambda: backend(
        normalizer=normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    ),
    "boundaries": lambda: backend(pre_tokenizer=pre_tokenizers.WhitespaceSplit()),
    "names": lambda: backend(special=("<pad>", "<unk>", "<s>", "</s>", "<mask>")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_stays_as_it_was_through_every_export(kind: str, tmp_path: Path) -> None:
    made = KINDS[kind]()
    (tmp_path / "read").mkdir()
    made.save(str(tmp_path / "read" / "tokenizer.json"))
    if kind == "names":
        roles = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
        settings = {f"{role}_token": {"content": name} for role, name in roles.items()}
        (tmp_path / "read" / "tokenizer_config.json").write_text(json.dumps(settings))
    read = open_tokenizer(str(tmp_path / "read"), "tokenizer.path")
    expected = [encoding.ids for encoding in made.encode_batch(TEXTS, add_special_tokens=False)]
    assert read.encode(TEXTS) == expected
    every = np.arange(read.vocab_size)
    begins = read.begins_words(every, np.zeros(len(every), bool))
    pieces = {read.tokens[index] for index in np.flatnonzero(~begins)}
    assert pieces == ({"@@s", "@@x"} if kind == "prefix" else {"##s", "##x"})
    assert read.is_special_V.sum() == 5, "tokens that were added are words"
    before, folder = read, tmp_path / "export"
    for _ in range(2):
        to_transformers(before, 64).save_pretrained(folder)
        again = open_tokenizer(str(folder), "run")
        assert again.fingerprint == read.fingerprint
        assert again.roles == read.roles
        assert again.encode(TEXTS) == expected
        before, last, folder = again, folder, tmp_path / "again"
    BertConfig().save_pretrained(last)
    theirs = AutoTokenizer.from_pretrained(last)
    pairs = theirs(TEXTS[:3], TEXTS[:3])
    for ids, types, own in zip(pairs["input_ids"], pairs["token_type_ids"], expected, strict=False):
        assert ids == [read.opening_id, *own, read.closing_id, *own, read.closing_id]
        assert types == [0] * (len(own) + 2) + [1] * (len(own) + 1)
    assert (theirs.mask_token_id, theirs.pad_token_id) == (read.mask_id, read.pad_id)
    assert theirs.model_max_length == 64
    assert (type(theirs) is BertTokenizer) == (kind in ("plain", "accents", "names"))


SPECIAL_OF_ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
TEXT_OF_ROBERTA = "The unhappiest café waited, don't 漢字 wait"


def byte_level() -> tuple[Backend, trainers.Trainer]:
    made = Backend(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return made, trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL_OF_ROBERTA, initial_alphabet=alphabet
    )


def sentencepiece() -> tuple[Backend, trainers.Trainer]:
    made = Backend(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return made, trainers.UnigramTrainer(
        vocab_size=60, special_tokens=SPECIAL_OF_ROBERTA, unk_token="<unk>"
    )


@pytest.mark.parametrize("make", [byte_level, sentencepiece])
@pytest.mark.parametrize("with_settings", [True, False])
def test_a_tokenizer_like_roberta_s_is_known_by_its_roles(
    make: Callable[[], tuple[Backend, trainers.Trainer]], with_settings: bool, tmp_path: Path
) -> None:
    made, trainer = make()
    made.train_from_iterator([TEXT_OF_ROBERTA, "wait waited unhappy happiest"] * 9, trainer)
    names = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
    if make is byte_level:
        model = json.loads(made.to_str())["model"]
        merges = [tuple(pair) for pair in model["merges"]]
        theirs = RobertaTokenizer(vocab=model["vocab"], merges=merges)
    else:
        keys = {f"{role}_token": name for role, name in names.items()}
        theirs = PreTrainedTokenizerFast(tokenizer_object=made, **keys)
    theirs.save_pretrained(tmp_path / "read")
    if not with_settings:
        (tmp_path / "read" / "tokenizer_config.json").unlink()
    read = open_tokenizer(str(tmp_path / "read"), "tokenizer.path")
    assert read.roles.tokens == names
    ids = (read.opening_id, read.pad_id, read.closing_id, read.unk_id, read.mask_id)
    assert ids == (0, 1, 2, 3, 4)
    assert read.is_special_V.nonzero()[0].tolist() == [0, 1, 2, 3, 4]
    assert read.special_in_pair == 4
    (own,) = read.encode([TEXT_OF_ROBERTA])
    assert own == made.encode(TEXT_OF_ROBERTA, add_special_tokens=False).ids
    pair = read.sequence(own, own[:3])
    assert pair.tolist() == [0, *own, 2, 2, *own[:3], 2]
    assert read.join(own).strip() == TEXT_OF_ROBERTA
    # Letters that stand for bytes are read as text; a part of a character is shown as its bytes.
    shown = "".join(read.shown[index] for index in own)
    parts = re.compile(r"(\\x[0-9a-f]{2})+")
    written = parts.sub(lambda m: bytes.fromhex(m[0].replace("\\x", "")).decode(), shown)
    assert re.sub("[Ġ▁]", " ", written).strip() == TEXT_OF_ROBERTA
    assert all(read.tokens[index] == read.shown[index] for index in range(5))
    # A mask has the space of what it hides.
    hidden = read.join([read.mask_id] * len(own), own).strip()
    assert hidden.count(" ") == TEXT_OF_ROBERTA.count(" ")
    begins = read.begins_words(np.array(own), np.arange(len(own)) == 0)
    words = "".join(
        ("|" if new else "") + read.join([index]) for new, index in zip(begins, own, strict=True)
    )
    # SentencePiece writes a space before the first word too, and some as pieces of their own.
    last = "'t|漢字|wait" if make is byte_level else "'|t|漢|字|wait"
    assert words.replace(" ", "").removeprefix("|") == f"The|unhappiest|café|waited|,|don|{last}"
    to_transformers(read, 64, segments=False).save_pretrained(tmp_path / "export")
    again = open_tokenizer(str(tmp_path / "export"), "run")
    assert (again.fingerprint, again.roles) == (read.fingerprint, read.roles)
    assert again.separators == 2
    RobertaConfig().save_pretrained(tmp_path / "export")
    found = AutoTokenizer.from_pretrained(tmp_path / "export")(TEXT_OF_ROBERTA, TEXT_OF_ROBERTA)
    assert found["input_ids"] == read.sequence(own, own).tolist()
    assert "token_type_ids" not in found


def test_a_vocabulary_with_a_byte_order_mark_is_the_same(tmp_path: Path) -> None:
    text = "\n".join([*SPECIAL_TOKENS, *WORDS]) + "\n"
    for name, data in (("plain", text.encode()), ("marked", b"\xef\xbb\xbf" + text.encode())):
        (tmp_path / f"{name}.txt").write_bytes(data)
        (tmp_path / name).mkdir()
        (tmp_path / name / "vocab.txt").write_bytes(data)
    names = ("plain.txt", "marked.txt", "plain", "marked")
    found = {open_tokenizer(str(tmp_path / name), "tokenizer.path").fingerprint for name in names}
    assert len(found) == 1


def test_a_vocabulary_of_a_folder_comes_with_its_settings_and_added_tokens(tmp_path: Path) -> None:
    """Files of transformers 4 before it wrote a tokenizer.json."""
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL_TOKENS, *WORDS]), encoding="utf-8")
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<ent>": 19}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    read = open_tokenizer(str(tmp_path), "tokenizer.path", lowercase=True)
    assert [read.tokens[index] for index in read.encode(["E <ent> é"])[0]] == ["E", "<ent>", "é"]


def test_the_settings_beside_a_tokenizer_count_as_they_do_in_transformers(tmp_path: Path) -> None:
    backend().save(str(tmp_path / "tokenizer.json"))
    for lowercase in (True, False):
        settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": lowercase}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
        ours = open_tokenizer(str(tmp_path), "tokenizer.path").encode(["E X"])
        theirs = BertTokenizer.from_pretrained(tmp_path)
        assert ours == theirs(["E X"], add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    ("file", "settings", "unread"),
    [
        ("tokenizer.json", None, ["lowercase=false", "strip_accents=true"]),
        ("vocab.txt", {"do_lower_case": True}, ["lowercase=false"]),
        ("vocab.txt", None, []),
    ],
)
def test_a_setting_that_a_tokenizer_has_itself_is_a_warning(
    file: str,
    settings: dict[str, bool] | None,
    unread: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend().save(str(tmp_path / "tokenizer.json"))
    if file == "vocab.txt":
        (tmp_path / "tokenizer.json").unlink()
        (tmp_path / file).write_text("\n".join([*SPECIAL_TOKENS, *WORDS]), encoding="utf-8")
    if settings:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    open_tokenizer(str(tmp_path), "tokenizer.path")
    assert not caplog.records, "defaults are no choice"
    open_tokenizer(str(tmp_path), "tokenizer.path", lowercase=False, strip_accents=True)
    assert [record.getMessage() for record in caplog.records] == [
        f"tokenizer.{each}: is not read, as tokenizer.path={tmp_path} has its own setting; the key "
        "is for trained tokenizers and a bare vocab.txt."
        for each in unread
    ]


def with_a_hole(folder: Path) -> None:
    backend().save(str(folder / "tokenizer.json"))
    described = json.loads((folder / "tokenizer.json").read_text())
    described["model"]["vocab"]["x"] = 40
    (folder / "tokenizer.json").write_text(json.dumps(described))


def japanese(folder: Path) -> None:
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL_TOKENS, *WORDS]), encoding="utf-8")
    settings = {"tokenizer_class": "BertJapaneseTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def closed_by_its_mask(folder: Path) -> None:
    made = backend()
    made.post_processor = processors.BertProcessing(("[MASK]", 4), ("[CLS]", 2))
    made.save(str(folder / "tokenizer.json"))


def without_mask(folder: Path) -> None:
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[M]")
    backend(special=special).save(str(folder / "tokenizer.json"))


def with_broken(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        backend().save(str(folder / "tokenizer.json"))
        (folder / name).write_text('{"mask_token": ')

    return write


def of_a_decoder(folder: Path) -> None:
    made, trainer = byte_level()
    made.train_from_iterator(["a b"], trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)]
    )
    made.save(str(folder / "tokenizer.json"))


def settings_that_name(**tokens: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        backend().save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps(tokens))

    return write


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (japanese, r"is a BertJapaneseTokenizer, which cuts text in ways"),
        (closed_by_its_mask, r"\[MASK\] is both its mask_token and its sep_token"),
        (of_a_decoder, r"puts other tokens around a pair of texts than <s> A </s> B </s>"),
        (
            without_mask,
            r"name no mask_token, .* of 19 tokens has no \[MASK\], <mask>, .* add a mask token",
        ),
        (
            settings_that_name(mask_token="[M]"),
            r"settings name \[M\] as mask_token, which its 19 tokens lack: .* add a mask token",
        ),
        (settings_that_name(cls_token="<s>"), r"name <s> as cls_token, which its 19 tokens lack"),
        (with_broken("tokenizer.json"), r"tokenizer\.json cannot be read as a tokenizer"),
        (with_broken("tokenizer_config.json"), r"its tokenizer_config\.json cannot be read"),
        (lambda folder: None, r"has no tokenizer \(no tokenizer\.json or vocab\.txt\); "),
    ],
)
def test_what_cannot_be_trained_with_is_refused_in_one_line(
    write: Callable[[Path], None], told: str, tmp_path: Path
) -> None:
    write(tmp_path)
    with pytest.raises(UserError, match=told) as caught:
        open_tokenizer(str(tmp_path), "tokenizer.path")
    assert str(caught.value).startswith(f"tokenizer.path={tmp_path}: ")
    assert "\n" not in str(caught.value)


def test_ids_without_a_token_are_never_drawn_nor_shown(tmp_path: Path) -> None:
    with_a_hole(tmp_path)
    read = open_tokenizer(str(tmp_path), "tokenizer.path")
    assert read.vocab_size == 41
    assert np.flatnonzero(read.is_special_V).tolist() == [*range(5), 17, *range(19, 40)]
    assert read.join(*read.encode(["x cat"])) == " x cat"
    to_transformers(read, 64).save_pretrained(tmp_path / "again")
    assert open_tokenizer(str(tmp_path / "again"), "run").fingerprint == read.fingerprint


# What `transformers` saves of a published tokenizer, by the kind of model: special tokens in the
# order of their ids, those that its settings name, and what it puts around a pair.
PUBLISHED: dict[str, tuple[list[str], dict[str, str], str]] = {
    "eurobert": (
        ["<|begin_of_text|>", "<|end_of_text|>", "<|mask|>"],
        {
            **{"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"},
            **{"mask_token": "<|mask|>", "pad_token": "<|end_of_text|>"},
        },
        "<|begin_of_text|> $A <|end_of_text|> $B <|end_of_text|>",
    ),
    "eurobert, no settings": (
        ["<|begin_of_text|>", "<|end_of_text|>", "<|mask|>"],
        {},
        "<|begin_of_text|> $A <|end_of_text|> $B <|end_of_text|>",
    ),
    "modernbert": (
        ["<|padding|>", "<|endoftext|>", "[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"],
        {f"{role}_token": f"[{role.upper()}]" for role in ("unk", "cls", "sep", "pad", "mask")},
        "[CLS] $A [SEP] $B [SEP]",
    ),
    "xlm-roberta": (
        ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"},
        "<s> $A </s> </s> $B </s>",
    ),
    "albert": (
        ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"],
        {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "[CLS]", "eos_token": "[SEP]"},
        "[CLS] $A [SEP] $B [SEP]",
    ),
    "mpnet": (
        ["<s>", "<pad>", "</s>", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[PAD]", "<mask>"],
        {},
        "<s> $A </s> </s> $B </s>",
    ),
    "esm": (
        ["<cls>", "<pad>", "<eos>", "<unk>", "<mask>"],
        {"cls_token": "<cls>", "eos_token": "<eos>"},
        "<cls> $A <eos> $B <eos>",
    ),
}
ROLES = {
    "eurobert": ("<|end_of_text|>", None, "<|begin_of_text|>", "<|end_of_text|>", "<|mask|>"),
    "modernbert": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "xlm-roberta": ("<pad>", "<unk>", "<s>", "</s>", "<mask>"),
    "albert": ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"),
    "mpnet": ("<pad>", "[UNK]", "<s>", "</s>", "<mask>"),
    "esm": ("<pad>", "<unk>", "<cls>", "<eos>", "<mask>"),
}


@pytest.mark.parametrize("kind", PUBLISHED)
@pytest.mark.parametrize("alone", [False, True], ids=["folder", "tokenizer.json"])
def test_the_roles_of_published_tokenizers_are_found(
    kind: str, alone: bool, tmp_path: Path
) -> None:
    special, settings, pair = PUBLISHED[kind]
    made, _ = byte_level()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet)
    made.train_from_iterator([TEXT_OF_ROBERTA], trainer)
    made.post_processor = processors.TemplateProcessing(
        single=pair.partition("$A")[0] + "$A" + pair.partition("$B")[2],
        pair=pair,
        special_tokens=[(token, made.token_to_id(token)) for token in special],
    )
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    path = tmp_path / "tokenizer.json" if alone else tmp_path
    read = open_tokenizer(str(path), "tokenizer.path")
    assert read.roles == Roles(*ROLES[kind.partition(",")[0]])
    (first,), (second,) = read.encode([TEXT_OF_ROBERTA]), read.encode(["wait"])
    assert read.sequence(first).tolist() == made.encode(TEXT_OF_ROBERTA).ids
    assert read.sequence(first, second).tolist() == made.encode(TEXT_OF_ROBERTA, "wait").ids
    to_transformers(read, 64, segments=False).save_pretrained(tmp_path / "export")
    again = open_tokenizer(str(tmp_path / "export"), "run")
    assert (again.fingerprint, again.roles) == (read.fingerprint, read.roles)
    RobertaConfig().save_pretrained(tmp_path / "export")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "export")
    padded = theirs([TEXT_OF_ROBERTA, "wait"], padding=True)
    assert padded["input_ids"][0] == read.sequence(first).tolist()
    assert sum(padded["attention_mask"][1]) == len(second) + 2


LANGUAGES = {
    "korean": ("한국어 문장을 학습합니다.", "한국어", True),
    "japanese": ("ガギグゲゴ が ぱぴぷ です。", "ガギグ", True),
    "hindi": ("हिन्दी भाषा की किताब.", "हिन्दी", True),
    "german": ("Schön über Größe: Äpfel für Öl.", "schon uber", False),
    "french": ("Été à la forêt, où l'élève naïf.", "ete a", False),
    "english": ("The café of 한 naïve readers. " + "Plain words follow. " * 20, "cafe", False),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_accents_go_where_letters_stay_letters(language: str) -> None:
    text, shown, kept = LANGUAGES[language]
    tokenizer = Tokenizer(train_wordpiece([text] * 5, 400, lowercase=True))
    found = tokenizer.backend.normalizer.normalize_str(text)
    assert shown in found
    assert (found == text.lower()) == kept
    if kept:
        assert tokenizer.unk_id not in tokenizer.encode([text])[0]
        assert {*shown} <= {*"".join(tokenizer.tokens)}


def test_accents_are_a_key_of_their_own() -> None:
    text = "Schön: Äpfel, 한국어"
    for lowercase, strip, expected in (
        (True, False, "schön: äpfel, 한국어"),
        (False, True, "Schon: Apfel, "),
        (False, None, "Schön: Äpfel, 한국어"),
    ):
        made = train_wordpiece([text], 200, lowercase, strip)
        assert made.normalizer.normalize_str(text).startswith(expected)
