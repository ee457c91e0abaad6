"""The chunked loss, against torch's own in one piece."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from bertexp.objectives import masked_loss as module
from bertexp.objectives.masked_loss import Terms, masked_loss


def inputs(count: int, width: int, vocabulary: int, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((count, width), (vocabulary, width), (vocabulary,))
    tensors = [torch.randn(shape, generator=generator) for shape in shapes]
    labels = torch.randint(vocabulary, (count,), generator=generator)
    return [*(tensor.requires_grad_() for tensor in tensors), labels]


def directly(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    logits = functional.linear(hidden, weight, bias).float()
    return functional.cross_entropy(logits, labels, reduction="sum")


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(0, 40), more=st.integers(0, 9), width=st.integers(1, 16),
    vocabulary=st.integers(2, 50), rows=st.integers(1, 50), words=st.integers(1, 60),
    seed=st.integers(0, 99), scale=st.floats(0.01, 10), weighted=st.booleans(),
    z_loss=st.sampled_from([0.0, 1e-4, 0.3]), smoothing=st.sampled_from([0.0, 0.1, 0.9]),
)  # fmt: skip
def test_loss_and_gradients_are_torchs_whatever_the_chunks(
    count: int, more: int, width: int, vocabulary: int, rows: int, words: int, seed: int,
    scale: float, weighted: bool, z_loss: float, smoothing: float,
) -> None:  # fmt: skip
    found = inputs(count, width, vocabulary, seed)
    hidden, *others = found
    unused = torch.full((more, width), 99.0)
    weights = torch.linspace(0.2, 3, count) if weighted else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(module.CHUNK_LOGITS, "cpu", rows * vocabulary)
        patch.setattr(module, "TILE_WORDS", words)
        found_loss = masked_loss(
            torch.cat([hidden, unused]), *others, weights, Terms(z_loss, smoothing)
        )
    loss = found_loss.total
    (scale * loss).backward()
    ours = [tensor.grad for tensor in found[:3]]
    *exact, labels = inputs(count, width, vocabulary, seed)
    expected = [tensor.detach().double().requires_grad_() for tensor in exact]
    logits = functional.linear(*expected)
    log_z = logits.logsumexp(-1)
    smoothed = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    each = smoothed + z_loss * log_z**2
    reference = (each if weights is None else weights * each).sum()
    (scale * reference).backward()
    torch.testing.assert_close(loss.double(), reference, rtol=1e-5, atol=1e-4)
    plain = functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(found_loss.each_N.double(), plain, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(found_loss.log_totals_N.double(), log_z, rtol=1e-5, atol=1e-4)
    top = logits.max(-1)
    clear = logits.topk(2).values.diff(dim=-1)[:, 0].abs() > 1e-4
    assert torch.equal(found_loss.hits_N[clear], (top.indices == labels)[clear])
    for gradient, tensor in zip(ours, expected, strict=True):
        # Rounding grows with the scale.
        gap = gradient.double() / scale - tensor.grad / scale
        size = max(1.0, (tensor.grad / scale).norm().item())
        assert gap.norm() <= 1e-4 * size


@pytest.mark.parametrize("terms", [Terms(), Terms(z_loss=0.3), Terms(label_smoothing=0.1)])
def test_words_that_fill_up_a_gpus_products_change_nothing(
    terms: Terms, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = []
    for multiple in (1, 64):
        monkeypatch.setitem(module.MULTIPLES, "cpu", multiple)
        *tensors, labels = inputs(20, 8, 50, 0)
        with torch.autocast("cpu", torch.bfloat16):
            loss = masked_loss(*tensors, labels, torch.linspace(0, 1, 20), terms).total
        loss.backward()
        ways.append([loss, *(tensor.grad for tensor in tensors)])
    for plain, filled in zip(*ways, strict=True):
        torch.testing.assert_close(filled, plain, rtol=1e-2, atol=1e-2)


def test_large_logits_do_not_overflow() -> None:
    hidden, weight, bias, labels = inputs(8, 4, 10, 0)
    loss = masked_loss(1e4 * hidden, weight, bias, labels).total
    assert torch.isfinite(loss)
    torch.testing.assert_close(loss, directly(1e4 * hidden, weight, bias, labels))


def test_half_precision_is_as_near_as_torchs_own() -> None:
    exact = inputs(64, 32, 100, 1)
    directly(*exact).backward()
    gaps = []
    for loss in (lambda *given: masked_loss(*given).total, directly):
        half = inputs(64, 32, 100, 1)
        with torch.autocast("cpu", torch.bfloat16):
            total = loss(*half)
        assert total.dtype == torch.float32
        total.backward()
        gaps.append(
            [(a.grad - b.grad).norm().item() for a, b in zip(half[:3], exact[:3], strict=True)]
        )
    for ours, theirs in zip(*gaps, strict=True):
        assert ours <= 1.5 * theirs
