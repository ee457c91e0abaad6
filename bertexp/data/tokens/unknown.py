"""Words that a tokenizer does not know: one token stands for all, and it is never predicted."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.validation import UserError

log = logging.getLogger(__name__)

# The share of unknown tokens that triggers a warning.
MANY = 0.03
# Characters searched for examples, and how many of these a warning names.
SEARCHED = 1 << 18
NAMED = 3


def unknown_share(counts_V: np.ndarray, tokenizer: Tokenizer) -> float:
    """Return the share of unknown tokens, given how often each id occurs."""
    if tokenizer.unk_id is None:
        return 0.0
    return float(counts_V[tokenizer.unk_id] / max(counts_V.sum(), 1))


def check_unknown(
    counts_V: np.ndarray,
    tokenizer: Tokenizer,
    texts: Iterable[str],
    source: str,
    advice: str,
) -> None:
    """Warn if many tokens are unknown, with examples from ``texts``.

    ``advice`` is for a vocabulary that lacks characters; too long words get other advice.

    Raises:
        UserError: no word is known, so that nothing can be predicted.
    """
    share = unknown_share(counts_V, tokenizer)
    if share <= MANY:
        return
    words = Counter(_unknown_words(texts, tokenizer))
    longest = getattr(tokenizer.backend.model, "max_input_chars_per_word", math.inf)
    shown = [f"'{word}'" for word, _ in words.most_common(NAMED) if len(word) <= longest]
    examples = f", such as {', '.join(shown)}" if shown else ""
    if sum(n for word, n in words.items() if len(word) > longest) > words.total() / 2:
        advice = (
            f"most are over {longest} characters long, which no WordPiece vocabulary knows: "
            "put spaces between words, or between groups of characters"
        )
    known = np.flatnonzero((counts_V > 0) & ~tokenizer.is_special_V)
    if not any(any(map(str.isalnum, tokenizer.tokens[index])) for index in known):
        raise UserError(f"{source}: the tokenizer knows none of its words{examples}; {advice}.")
    many = f"{100 * share:.1f}% of the tokens are {tokenizer.roles.unk}"
    log.warning("%s: %s%s; %s.", source, many, examples, advice)


def _unknown_words(texts: Iterable[str], tokenizer: Tokenizer) -> Iterator[str]:
    left = SEARCHED
    for text in texts:
        encoding = tokenizer.backend.encode(text[:left], add_special_tokens=False)
        for index, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if index == tokenizer.unk_id:
                yield text[start:end]
        left -= len(text)
        if left <= 0:
            return
