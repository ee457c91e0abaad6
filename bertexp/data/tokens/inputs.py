"""A text, or two, as a model reads them."""

from __future__ import annotations

from dataclasses import dataclass

from bertexp.data.tokens.tokenizer import WordPieceTokenizer
from bertexp.validation import UserError


@dataclass(frozen=True)
class ModelInput:
    """``[CLS] A [SEP]``, or ``[CLS] A [SEP] B [SEP]``; a value a token in each attribute.

    Attributes:
        ids: of the tokens.
        tokens: their names in the vocabulary.
        segments: 0 for the first text and the special tokens with it, 1 for the second.
        words: what was written where the token is: the whole word, where it is one of several
            pieces; empty for ``[CLS]`` and ``[SEP]``.
        is_piece: whether the token goes on with the word before it.
    """

    ids: list[int]
    tokens: list[str]
    segments: list[int]
    words: list[str]
    is_piece: list[bool]

    @classmethod
    def of(cls, tokenizer: WordPieceTokenizer, text: str, text_b: str | None = None) -> ModelInput:
        """Return how ``tokenizer`` cuts one text or two.

        Raises:
            UserError: one of them has no token.
        """
        ids, segments, words, is_piece = [tokenizer.cls_id], [0], [""], [False]
        for segment, written in enumerate([text] if text_b is None else [text, text_b]):
            encoding = tokenizer.backend.encode(written, add_special_tokens=False)
            if not encoding.ids:
                name = "text_b" if segment else "text"
                raise UserError(f"{name}: is empty; it must have at least one token.")
            ids += [*encoding.ids, tokenizer.sep_id]
            segments += [segment] * (len(encoding.ids) + 1)
            numbers = [number or 0 for number in encoding.word_ids]
            places: dict[int, tuple[int, int]] = {}
            for number, (start, end) in zip(numbers, encoding.offsets, strict=True):
                places[number] = (places.get(number, (start, end))[0], end)
            words += [written[slice(*places[number])] for number in numbers] + [""]
            is_piece += [n > 0 and numbers[n] == numbers[n - 1] for n in range(len(numbers))]
            is_piece.append(False)
        return cls(ids, [tokenizer.tokens[index] for index in ids], segments, words, is_piece)

    def __len__(self) -> int:
        return len(self.ids)

    def must_fit(self, limit: int) -> None:
        """Raise a ``UserError`` if there are more tokens than a model takes."""
        if len(self) > limit:
            raise UserError(
                f"text: has {len(self)} tokens with [CLS] and [SEP], the model takes {limit}; "
                "shorten it."
            )
