"""Masks of every strategy: the rate asked for, no special token, the same in any batch, nested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forkserver import ForkServer
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bertexp.data.tokens.saved import open_tokenizer
from bertexp.data.tokens.store import TokenStore
from bertexp.masking import STRATEGIES
from bertexp.masking.config import DRAWS, MaskingConfig, ReplaceConfig
from bertexp.masking.masker import Masked, Masker
from bertexp.masking.strategies import Context, Strategy
from bertexp.registry import with_own_keys

ALARM = 1e-9
# Standard errors that no measured rate should be away from its expectation.
SIGMAS = 6
# A strategy that is added is tested with the others.
ALL = STRATEGIES.names()
# Every unit of these has the same weight.
UNWEIGHTED = [name for name in ALL if STRATEGIES[name].weights is Strategy.weights]
SEEDS = st.integers(0, 2**32 - 1)
RATES = st.floats(0.001, 0.999)
# Rows of ordinary tokens, pieces and [UNK] between them, to be put between [CLS] and [SEP].
ROWS = st.lists(
    st.lists(st.integers(4, 59).map(lambda i: 1 if i == 4 else i), max_size=40),
    min_size=1,
    max_size=8,
)
BERT = ReplaceConfig(mask=0.8, random=0.1, keep=0.1)
every_strategy = pytest.mark.parametrize("strategy", ALL)
every_draw = pytest.mark.parametrize("draw", DRAWS)


def as_likely(hits: int, trials: int, probability: float) -> bool:
    return stats.binomtest(hits, trials, probability).pvalue > ALARM


def units_of(starts_BL: np.ndarray, maskable_BL: np.ndarray) -> np.ndarray:
    """Number each position's unit; -1 where nothing is maskable."""
    width = starts_BL.shape[1]
    return np.where(maskable_BL, np.arange(len(starts_BL))[:, None] * width + starts_BL, -1)


@every_strategy
@settings(deadline=None, max_examples=40)
@given(
    rows=ROWS, prob=RATES, seed=SEEDS, epoch=st.integers(0, 100), draw=st.sampled_from(DRAWS),
    at_least_one=st.booleans(),
)  # fmt: skip
def test_specials_stay_and_every_sequence_predicts_whole_units(
    lab: Any, strategy: str, rows: list[list[int]], prob: float, seed: int, epoch: int,
    draw: str, at_least_one: bool,
) -> None:  # fmt: skip
    ids, examples = lab.padded(rows), np.arange(len(rows))
    before = ids.copy()
    masker = lab.masker(strategy, prob, seed, draw=draw, at_least_one=at_least_one)
    masked = masker.mask(ids, examples, epoch)
    maskable = ids > lab.mask_id
    assert (ids == before).all()
    assert not (masked.predicted_BL & ~maskable).any()
    assert masked.maskable == maskable.sum()
    assert (masked.input_ids_BL[~masked.predicted_BL] == ids[~masked.predicted_BL]).all()
    assert (masked.input_ids_BL[masked.predicted_BL] >= lab.mask_id).all()
    starts, score = masker.units(ids, maskable, examples, epoch)
    numbers = units_of(starts, maskable)
    inside = set(numbers[masked.predicted_BL].tolist())
    assert not inside & set(numbers[maskable & ~masked.predicted_BL].tolist())
    drawn = (score < masker.strategy.threshold(prob)).any(1)
    assert masked.empty == (maskable.any(1) & ~drawn).sum()
    # A sequence that drew none is given exactly one unit, or none.
    for row in np.flatnonzero(maskable.any(1) & ~drawn):
        assert len(set(numbers[row, masked.predicted_BL[row]].tolist())) == at_least_one


@every_strategy
@every_draw
@pytest.mark.parametrize("length", [5, 100])
@settings(deadline=None, max_examples=12, derandomize=True)
@given(prob=st.floats(0.01, 0.9), seed=SEEDS, epoch=st.integers(0, 100))
def test_the_rate_is_the_one_that_was_set(
    lab: Any, strategy: str, draw: str, length: int, prob: float, seed: int, epoch: int
) -> None:
    rows = lab.cut(lab.texts, length)
    ids, examples = lab.padded(rows), np.arange(len(rows))
    masker = lab.masker(strategy, prob, seed, draw=draw)
    maskable = ids > lab.mask_id
    _, score = masker.units(ids, maskable, examples, epoch)
    drawn_B = (score < masker.strategy.threshold(prob)).sum(1)
    # A cut in the middle of a word makes words that the frequencies do not hold.
    if strategy == "frequency" and length == 5:
        weights = masker.strategy.weights(ids, maskable)
        certain = np.minimum(1, weights * masker.strategy.threshold(prob))
        expected_B = (certain * maskable).sum(1)
    else:
        expected_B = prob * maskable.sum(1)
    residual_B = drawn_B - expected_B
    if strategy == "frequency":
        # Its documents have rates of their own, whose sum over the corpus is fixed.
        assert abs(residual_B.sum()) < 0.02 * expected_B.sum() + 60
    assert abs(residual_B.sum()) < SIGMAS * np.sqrt((residual_B**2).sum())


@pytest.mark.parametrize("strategy", UNWEIGHTED)
@pytest.mark.parametrize("prob", [0.01, 0.15, 0.5])
def test_at_least_one_adds_exactly_what_empty_sequences_lack(
    lab: Any, strategy: str, prob: float
) -> None:
    rows = lab.cut(lab.texts, 6)
    ids, examples = lab.padded(rows), np.arange(len(rows))
    masker = lab.masker(strategy, prob, seed=3, draw="independent", at_least_one=True)
    masked, maskable = masker.mask(ids, examples, 0), ids > lab.mask_id
    starts, _ = masker.units(ids, maskable, examples, 0)
    numbers = units_of(starts, maskable)
    count_B = np.array([len(set(row.tolist()) - {-1}) for row in numbers])
    size_B, some = maskable.sum(1), count_B > 0
    empty_B = (1 - prob) ** count_B[some]
    expected_B = prob * size_B[some] + empty_B * size_B[some] / count_B[some]
    residual_B = masked.predicted_BL.sum(1)[some] - expected_B
    assert abs(residual_B.sum()) < SIGMAS * np.sqrt((residual_B**2).sum())
    error = np.sqrt((empty_B * (1 - empty_B)).sum())
    assert abs(masked.empty - empty_B.sum()) < SIGMAS * error + 1


@pytest.mark.parametrize("strategy", UNWEIGHTED)
@settings(deadline=None, max_examples=40)
@given(rows=ROWS, prob=RATES, seed=SEEDS)
def test_a_budget_is_spent_to_within_a_unit(
    lab: Any, strategy: str, rows: list[list[int]], prob: float, seed: int
) -> None:
    ids, examples = lab.padded(rows), np.arange(len(rows))
    masker, maskable = lab.masker(strategy, prob, seed, draw="budget"), ids > lab.mask_id
    starts, score = masker.units(ids, maskable, examples, 0)
    spent_B = (score < prob).sum(1)
    for row, budget in enumerate(prob * maskable.sum(1)):
        longest = np.bincount(starts[row, maskable[row]], minlength=1).max(initial=0)
        assert abs(spent_B[row] - budget) <= longest
        # Only where the budget is less than some unit's tokens can there be none.
        assert spent_B[row] > 0 or budget < longest or longest == 0
        if longest == 1:
            assert spent_B[row] in (np.floor(budget), np.ceil(budget))


@pytest.mark.parametrize("strategy", UNWEIGHTED)
@pytest.mark.parametrize("prob", [0.04, 0.3])
def test_a_budget_favours_no_place_and_no_length(lab: Any, strategy: str, prob: float) -> None:
    count, row = 20_000, lab.texts[3][:30]
    ids, examples = lab.padded([row] * count), np.arange(count)
    masker = lab.masker(strategy, prob, seed=5, draw="budget")
    maskable = ids > lab.mask_id
    starts, score = masker.units(ids, maskable, examples, 0)
    hits_BL = score < prob
    for column in np.flatnonzero(maskable[0]):
        assert as_likely(int(hits_BL[:, column].sum()), count, prob)
    units = units_of(starts, maskable)
    numbers, first, sizes = np.unique(units[maskable], return_index=True, return_counts=True)
    hits_U = hits_BL[maskable][first]
    for size in np.unique(sizes):
        assert as_likely(int(hits_U[sizes == size].sum()), int((sizes == size).sum()), prob)
    # A sequence is empty where the arc that the rate cuts out lies within a unit.
    share_U = sizes / maskable[0].sum()
    rows_U = numbers // ids.shape[1]
    empty_B = np.bincount(rows_U, np.maximum(0, share_U - prob), minlength=count)
    error = np.sqrt((empty_B * (1 - empty_B)).sum())
    assert abs((~hits_BL.any(1)).sum() - empty_B.sum()) <= SIGMAS * error


@pytest.mark.slow
@every_strategy
def test_real_text_is_masked_at_the_rate_that_was_set_at_every_place(
    strategy: str, real_text: Path, real_vocabulary: Path, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setenv("BERTEXP_CACHE", str(tmp_path))
    tokenizer = open_tokenizer(str(real_vocabulary), "tokenizer.path")
    lines = [line for line in real_text.read_text("utf-8").split("\n") if len(line) > 40]
    ids = np.concatenate(tokenizer.encode(lines))
    size, count = 126, len(ids) // 126
    ids = ids[: size * count]
    bounds = np.arange(0, len(ids) + 1, size)
    units = np.arange(count + 1)
    store = TokenStore(ids.astype(np.uint16), bounds, units, units, "real")
    rows = np.stack([tokenizer.sequence(row) for row in ids.reshape(count, size)])
    config = with_own_keys(MaskingConfig, "masking")(
        prob=0.15, strategy=strategy, replace=BERT, draw="budget"
    )
    masker = Masker(Context(config, tokenizer, store), seed=0)
    maskable, epochs = ~tokenizer.is_special_V[rows], 6
    scores = [masker.units(rows, maskable, np.arange(count), epoch)[1] for epoch in range(epochs)]
    for rate in (0.01, 0.05, 0.15, 0.4, 0.9):
        hits_EBL = np.stack([score < masker.strategy.threshold(rate) for score in scores])
        spent_N = hits_EBL.sum(2).ravel()
        within = max(0.01, chance(spent_N))
        assert spent_N.mean() / maskable.sum(1).mean() == pytest.approx(rate, rel=within)
        # By seventh of the sequence.
        parts_N7 = hits_EBL[:, :, 1:-1].reshape(len(spent_N), 7, -1).sum(2)
        there_7 = maskable[:, 1:-1].reshape(count, 7, -1).sum((0, 2)) / count
        for part, there in enumerate(there_7):
            within = max(0.02, chance(parts_N7[:, part]))
            assert parts_N7[:, part].mean() / there == pytest.approx(rate, rel=within)


def chance(counts_N: np.ndarray) -> float:
    """Return four standard errors of the mean, as a share of it: of 1% in spans, 1.7%."""
    return float(4 * counts_N.std() / counts_N.mean() / np.sqrt(len(counts_N)))


SHARES = st.lists(st.integers(0, 100), min_size=2, max_size=2).map(sorted)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(cuts=SHARES, seed=SEEDS)
def test_shares_of_what_is_put_in_are_those_asked_for(lab: Any, cuts: list[int], seed: int) -> None:
    mask, random, keep = cuts[0] / 100, (cuts[1] - cuts[0]) / 100, 1 - cuts[1] / 100
    ids = lab.padded(lab.texts)
    replace = ReplaceConfig(mask=mask, random=random, keep=keep)
    masked = lab.masker("token", 0.5, seed, replace=replace).mask(ids, np.arange(len(ids)), 0)
    truth, seen = ids[masked.predicted_BL], masked.input_ids_BL[masked.predicted_BL]
    count, ordinary = len(truth), lab.size - 5
    assert as_likely(int((seen == lab.mask_id).sum()), count, mask)
    # A random token is the old one once in a vocabulary.
    assert as_likely(int((seen == truth).sum()), count, keep + random / ordinary)


def test_every_ordinary_token_is_put_in_as_often(lab: Any) -> None:
    ids = np.full((100, 300), 7)
    replace = ReplaceConfig(mask=0, random=1, keep=0)
    masked = lab.masker("token", 0.5, replace=replace).mask(ids, np.arange(100), 0)
    seen = masked.input_ids_BL[masked.predicted_BL]
    counts = np.bincount(seen, minlength=lab.size)
    assert counts[:5].sum() == 0
    assert stats.chisquare(counts[5:]).pvalue > ALARM


@every_strategy
def test_devlins_shares_by_default(lab: Any, strategy: str) -> None:
    ids = lab.padded(lab.texts)
    masked = lab.masker(strategy, 0.5).mask(ids, np.arange(len(ids)), epoch=0)
    truth, seen = ids[masked.predicted_BL], masked.input_ids_BL[masked.predicted_BL]
    assert as_likely(int((seen == lab.mask_id).sum()), len(truth), 0.8)
    assert as_likely(int((seen == truth).sum()), len(truth), 0.1 + 0.1 / (lab.size - 5))


@every_strategy
@settings(deadline=None, max_examples=30)
@given(
    rows=ROWS, prob=RATES, seed=SEEDS, data=st.data(), width=st.integers(0, 80),
    first=st.integers(0, 2**40),
)  # fmt: skip
def test_the_mask_of_an_example_does_not_depend_on_its_batch(
    lab: Any, strategy: str, rows: list[list[int]], prob: float, seed: int,
    data: st.DataObject, width: int, first: int,
) -> None:  # fmt: skip
    example_ids = first + np.arange(len(rows))
    together = lab.masker(strategy, prob, seed).mask(lab.padded(rows), example_ids, epoch=3)
    order = data.draw(st.permutations(range(len(rows))))
    chosen = order[: data.draw(st.integers(1, len(rows)))]
    ids = lab.padded([rows[i] for i in chosen], width)
    apart = lab.masker(strategy, prob, seed).mask(ids, example_ids[chosen], epoch=3)
    for row, index in enumerate(chosen):
        length = len(rows[index]) + 2
        for name in ("input_ids_BL", "predicted_BL"):
            alone, among = getattr(apart, name)[row], getattr(together, name)[index]
            assert (alone[:length] == among[:length]).all()


@every_strategy
@settings(deadline=None, max_examples=40)
@given(rows=ROWS, rates=st.lists(RATES, min_size=2, max_size=2).map(sorted), seed=SEEDS)
def test_masks_are_nested_across_rates(
    lab: Any, strategy: str, rows: list[list[int]], rates: list[float], seed: int
) -> None:
    ids, examples = lab.padded(rows), np.arange(len(rows))
    masker = lab.masker(strategy, 0.5, seed)
    few, many = (masker.mask(ids, examples, 0, rate) for rate in rates)
    assert (few.prob, many.prob) == tuple(rates)
    assert not (few.predicted_BL & ~many.predicted_BL).any()
    # What stands at a position that both predict is the same too.
    both = few.predicted_BL
    assert (few.input_ids_BL[both] == many.input_ids_BL[both]).all()


def overlap(first: Masked, second: Masked) -> tuple[int, int]:
    return int((first.predicted_BL & second.predicted_BL).sum()), int(first.predicted_BL.sum())


def test_other_seeds_epochs_and_examples_have_unrelated_masks(lab: Any) -> None:
    ids = np.full((64, 128), 7)
    examples = np.arange(64)
    here = lab.masker("token", 0.3, 1).mask(ids, examples, 1)
    again = lab.masker("token", 0.3, 1).mask(ids, examples, 1)
    assert (here.predicted_BL == again.predicted_BL).all()
    assert (here.input_ids_BL == again.input_ids_BL).all()
    others = [
        lab.masker("token", 0.3, 2).mask(ids, examples, 1),
        lab.masker("token", 0.3, 1).mask(ids, examples, 2),
        lab.masker("token", 0.3, 2).mask(ids, examples, 0),
        lab.masker("token", 0.3, 0).mask(ids, examples, 2),
        lab.masker("token", 0.3, 1).mask(ids, examples + 1, 1),
        lab.masker("token", 0.3, 1).mask(ids, examples + 64, 1),
    ]
    for other in others:
        assert as_likely(*overlap(here, other), 0.3)


@every_strategy
@pytest.mark.parametrize("corrupt", [0.1, 0.3, 0.6])
def test_tokens_are_corrupted_apart_from_predicted(lab: Any, strategy: str, corrupt: float) -> None:
    ids, prob = lab.padded(lab.texts), 0.3
    examples, maskable = np.arange(len(ids)), lab.padded(lab.texts) > lab.mask_id
    only_mask = ReplaceConfig(mask=1, random=0, keep=0)
    settings = {"replace": only_mask, "at_least_one": False}
    plain = lab.masker(strategy, prob, **settings).mask(ids, examples, 0)
    masker = lab.masker(strategy, prob, corrupt_prob=corrupt, **settings)
    masked = masker.mask(ids, examples, 0)
    corrupted = masked.input_ids_BL != ids
    assert (masked.predicted_BL == plain.predicted_BL).all()
    assert not (corrupted & ~maskable).any()
    if corrupt <= prob:
        assert not (corrupted & ~masked.predicted_BL).any()
    if corrupt >= prob:
        assert not (masked.predicted_BL & ~corrupted).any()
    residual_B = corrupted.sum(1) - corrupt * maskable.sum(1)
    assert abs(residual_B.sum()) < SIGMAS * np.sqrt((residual_B**2).sum())


@settings(deadline=None, max_examples=40)
@given(epoch=st.integers(0, 1000), copies=st.integers(1, 20), seed=SEEDS)
def test_masks_repeat_as_asked_for(lab: Any, epoch: int, copies: int, seed: int) -> None:
    ids, examples = lab.padded(lab.texts[:4]), np.arange(4)

    def masks(epoch: int, **settings: Any) -> list[int]:
        masked = lab.masker("token", 0.3, seed, **settings).mask(ids, examples, epoch)
        return masked.input_ids_BL.tolist()

    assert masks(epoch, dynamic=False) == masks(0)
    assert masks(epoch, copies=copies) == masks(epoch % copies)
    assert masks(epoch) != masks(epoch + 1)


HALF = """
import sys
import numpy as np
from hydra import compose, initialize_config_dir
from bertexp.config import conf_dir, parse
from bertexp.experiment.prepare import prepare_examples
with initialize_config_dir(str(conf_dir()), version_base="1.3"):
    config = parse(compose("config", overrides=sys.argv[2:]))
_, examples = prepare_examples(config)
ids = np.arange(int(sys.argv[1]), 32, 2)
unmasked = examples.unmasked(ids)
masked = examples.masker.mask(unmasked, ids, epoch=3)
for row in masked.input_ids_BL:
    print(*[token for token in row if token])
"""


@pytest.mark.parametrize("strategy", ["whole_word", "span"])
def test_two_processes_that_share_a_batch_draw_the_masks_of_one(
    forkserver: ForkServer, clean_environment: dict[str, str], tmp_path: Path, strategy: str
) -> None:
    """Each takes every other example, as two ranks do."""
    overrides = ["dataset=synthetic", "dataset.synthetic.documents=60", f"masking={strategy}"]
    environment = clean_environment | {"BERTEXP_CACHE": str(tmp_path)}

    def rows(code: str, *arguments: str) -> list[str]:
        asked = ("-c", code, *arguments, *overrides)
        process = forkserver.start(*asked, folder=tmp_path, environment=environment)
        assert process.end() == 0, process.errors
        return [line for line in process.output.splitlines() if line[:1].isdigit()]

    even, odd = rows(HALF, "0"), rows(HALF, "1")
    one = rows(HALF.replace("int(sys.argv[1]), 32, 2", "32"), "-")
    assert one == [row for pair in zip(even, odd, strict=True) for row in pair]
    assert len(set(one)) == 32
