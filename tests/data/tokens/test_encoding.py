"""Large amounts of text are cut as the tokenizer cuts each text by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from bertexp.data.tokens import encoding
from bertexp.data.tokens.encoding import TextEncoder, cuts_at_spaces, cuts_before_spaces
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.data.tokens.training import TRAINERS
from bertexp.data.tokens.wordpiece import SPECIAL_TOKENS, bert_backend

PIECES = ["the", "cat", "##s", "e", "é", "E", ".", "##.", "漢", "[", "]", "mask", "ß", "s", "##e"]
VOCABULARY = {piece: index for index, piece in enumerate([*SPECIAL_TOKENS, *PIECES])}

# What a cut at spaces could get wrong: marks, controls and other white space, special tokens.
TEXTS = st.lists(
    st.text("thecaséE漢 .\t\n\r\u0301\u00a0\u2003\x1c\x00ΣİA", max_size=12)
    | st.text(max_size=20)
    | st.lists(st.sampled_from(["[MASK]", "[SEP]", " ", "cats", "\u0301", "the."])).map("".join),
    max_size=6,
)


WORDS = ["the cats of 漢字, the cats", "é E [cat] ΣİA the. case", "a\u0301 s\u00a0s th\tts"]
TRAINED = {
    (kind, folded): Tokenizer(train(WORDS * 9, 300, folded))
    for kind, (train, _) in TRAINERS.items()
    if kind != "wordpiece"
    for folded in (True, False)
}


@settings(deadline=None, max_examples=300)
@given(
    calls=st.lists(TEXTS, max_size=4),
    kind=st.sampled_from(["wordpiece", "bpe", "unigram", "as roberta"]),
    lowercase=st.booleans(),
    limit=st.sampled_from([0, 9999]),
)
def test_texts_are_cut_as_by_the_tokenizer(
    calls: list[list[str]], kind: str, lowercase: bool, limit: int
) -> None:
    if kind == "wordpiece":
        tokenizer = Tokenizer(bert_backend(VOCABULARY, lowercase))
    elif kind == "as roberta":
        backend = Backend.from_str(TRAINED["bpe", lowercase].backend.to_str())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer = Tokenizer(backend)
    else:
        tokenizer = TRAINED[kind, lowercase]
    assert cuts_at_spaces(tokenizer.backend) or cuts_before_spaces(tokenizer.backend)
    encoder = TextEncoder(tokenizer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "TABLE_CHARACTERS", limit)
        for texts in calls:
            ids, sizes = encoder.encode(texts)
            expected = tokenizer.encode(texts)
            assert sizes.tolist() == [len(one) for one in expected]
            assert ids.tolist() == [index for one in expected for index in one]
            assert ids.dtype == np.uint16


def test_real_text_is_cut_as_by_the_tokenizer(real_tokenizer: Tokenizer, real_text: Path) -> None:
    lines = real_text.read_text(encoding="utf-8").splitlines()[::5]
    ids, sizes = TextEncoder(real_tokenizer).encode(lines)
    expected = real_tokenizer.encode(lines)
    assert sizes.tolist() == [len(one) for one in expected]
    assert ids.tolist() == [index for one in expected for index in one]
    assert len(ids) > 50_000


def test_a_tokenizer_that_looks_across_spaces_gets_whole_texts() -> None:
    backend = Backend(models.WordPiece({**VOCABULARY, "the_cat": 20}, unk_token="[UNK]"))
    backend.normalizer = normalizers.Replace("the cat", "the_cat")
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = Tokenizer(backend)
    ids, sizes = TextEncoder(tokenizer).encode(["the cat the", "", "the"])
    assert (ids.tolist(), sizes.tolist()) == ([20, 5, 5], [2, 0, 1])


@pytest.mark.parametrize(
    "token",
    [AddedToken("a b"), AddedToken("a", lstrip=True), AddedToken("b", rstrip=True)],
)
def test_added_tokens_that_reach_beyond_a_word_are_known(token: AddedToken) -> None:
    backend = bert_backend(VOCABULARY, lowercase=True)
    assert cuts_at_spaces(backend)
    backend.add_tokens([token])
    assert not cuts_at_spaces(backend)
