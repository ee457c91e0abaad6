"""Text that is written mask by mask follows the language; filled all at once, it does not."""

from __future__ import annotations

import numpy as np
import torch

from bertexp.data.config import SyntheticKeys
from bertexp.data.corpora.synthetic import HIDDEN, Language
from bertexp.predict.unmasking import Unmasking, unmask

WORDS = 24


def surprise(language: Language, words_BL: np.ndarray) -> float:
    """Return the mean nats of a word after the one before it, under the likeliest topic."""
    chains_TBL = language.transitions_TWW[:, words_BL[:, :-1], words_BL[:, 1:]]
    nats_TB = -np.log(np.maximum(chains_TBL, 1e-6)).mean(2)
    return float(nats_TB.min(0).mean())


def test_text_written_step_by_step_follows_the_language() -> None:
    """The exact predictions of the made-up language, in place of a model's."""
    language = Language.of(SyntheticKeys(topics=3, words=12))
    count = len(language.words)

    def logits(ids: list[int], places: list[int]) -> torch.Tensor:
        words_1L = np.array([[HIDDEN if word == count else word for word in ids]])
        return torch.from_numpy(language.log_probs(words_1L)[0, places])

    def written(steps: int | None) -> np.ndarray:
        rows = []
        for seed in range(20):
            how = Unmasking(steps, seed)
            masked, places = [count] * WORDS, list(range(WORDS))
            found = unmask(logits, masked, places, np.ones(count, dtype=bool), how)
            assert sorted(each.place for each in found) == places
            tokens = {each.place: each.token for each in found}
            rows.append([tokens[place] for place in places])
        return np.array(rows)

    _, drawn_BL = language.draw(np.random.default_rng(0), 20, WORDS)
    one_by_one, at_once = surprise(language, written(None)), surprise(language, written(1))
    assert one_by_one < surprise(language, drawn_BL) + 0.2
    assert at_once > one_by_one + 2
