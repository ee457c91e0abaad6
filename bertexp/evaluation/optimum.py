"""The least loss that any model can have on the bank of a synthetic corpus."""

from __future__ import annotations

import numpy as np

from bertexp.corpora.synthetic import HIDDEN, Language
from bertexp.evaluation.bank import Bank
from bertexp.tasks.batch import Batch
from bertexp.tokens.tokenizer import WordPieceTokenizer


def optimal_losses(
    bank: Bank, tokenizer: WordPieceTokenizer, language: Language
) -> dict[str, float]:
    """Return the loss of the true law of the language, by the names that ``evaluate`` uses.

    Empty where the tokenizer does not keep every word of the language whole, or where no
    masked tokens are asked for.
    """
    words_V = _word_numbers(tokenizer, language)
    masked = bank.of("mlm")
    if words_V is None or not masked:
        return {}
    losses = {
        f"eval/loss@{asked.name}": float(
            np.concatenate([_losses(batch, words_V, language) for batch in asked.batches]).mean()
        )
        for asked in masked
    }
    return {"eval/loss": float(np.mean(list(losses.values())))} | losses


def _word_numbers(tokenizer: WordPieceTokenizer, language: Language) -> np.ndarray | None:
    """Return the number of the word that each token is, ``HIDDEN`` for all others."""
    words_V = np.full(tokenizer.vocab_size, HIDDEN)
    for number, ids in enumerate(tokenizer.encode(language.words)):
        if len(ids) != 1 or tokenizer.is_special_V[ids[0]]:
            return None
        words_V[ids[0]] = number
    return words_V


def _losses(batch: Batch, words_V: np.ndarray, language: Language) -> np.ndarray:
    """Return the negative log probability of each label, given the unmasked words of its block."""
    assert batch.positions_N is not None and batch.labels_N is not None
    words_BL = words_V[batch.input_ids_BL.numpy()]
    rows_N, columns_N = np.unravel_index(batch.positions_N.numpy(), words_BL.shape)
    # [CLS] comes before the text and is no hidden word of it; what comes after it changes nothing.
    log_probs_BLW = language.log_probs(words_BL[:, 1:])
    return -log_probs_BLW[rows_N, columns_N - 1, words_V[batch.labels_N.numpy()]]
