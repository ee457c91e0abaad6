"""A model's answers as tables."""

from __future__ import annotations

from bertexp.experiment.pretraining import sample_tables
from bertexp.objectives.samples import Guess, MaskedSample, PairSample


def test_a_row_is_a_masked_token_or_a_pair() -> None:
    guesses = [Guess("##ing", [("##ed", 0.5), ("##ing", 0.25)]), Guess("dog", [("dog", 0.75)])]
    masked = MaskedSample("bark [MASK] , [MASK]s", "[MASK]", guesses)
    pairs = [PairSample("A.", "B.", follows, 0.25) for follows in (True, False)]
    tables = sample_tables([masked, *pairs])
    columns, rows = tables["samples/masked"]
    assert [dict(zip(columns, row, strict=True)) for row in rows] == [
        {
            "text": "bark [MASK] , [MASK]s",
            "truth": truth,
            "prediction": prediction,
            "probability": probability,
            "right": right,
        }
        for truth, prediction, probability, right in (
            ("##ing", "##ed", 0.5, False),
            ("dog", "dog", 0.75, True),
        )
    ]
    assert tables["samples/pairs"][1] == [
        ["A.", "B.", True, 0.25, False],
        ["A.", "B.", False, 0.25, True],
    ]
    assert sample_tables(pairs).keys() == {"samples/pairs"}
