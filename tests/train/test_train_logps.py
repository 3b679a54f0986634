"""The chunked head against the plain way: values, gradients, numeric gradient, softcap, scale, bias, memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from prefdata.models import packing_logps as logps
from prefdata.models.packing_logps import Head, segment_sums


def plain(head: Head, hidden: Tensor, targets: Tensor) -> Tensor:
    logits = head.scale * (hidden @ head.weight.T + (0 if head.bias is None else head.bias))
    if head.softcap is not None:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    return torch.log_softmax(logits, -1).gather(1, targets[:, None])[:, 0]


def make(rows: int, words: int, dtype: torch.dtype, **more: float) -> tuple[Head, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(words, 6, generator=generator, dtype=dtype).requires_grad_()
    bias = torch.randn(words, generator=generator, dtype=dtype).requires_grad_()
    hidden = torch.randn(rows, 6, generator=generator, dtype=dtype).requires_grad_()
    return Head(weight, bias, **more), hidden, torch.randint(0, words, (rows,), generator=generator)


@pytest.mark.parametrize("more", [{}, {"scale": 0.25}, {"softcap": 3.0}, {"scale": 2.0, "softcap": 5.0}])
def test_chunks_equal_plain(more: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(logps.CHUNK, "cpu", 16 * 11)
    head, hidden, targets = make(50, 11, torch.float64, **more)
    got, want = head.logps(hidden, targets), plain(head, hidden, targets)
    torch.testing.assert_close(got, want)
    pull = torch.randn(50, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    inputs = (hidden, head.weight, head.bias)
    for mine, other in zip(torch.autograd.grad(got, inputs, pull), torch.autograd.grad(want, inputs, pull), strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("more", [{}, {"softcap": 3.0}])
def test_gradcheck(more: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(logps.CHUNK, "cpu", 1)
    head, hidden, targets = make(20, 5, torch.float64, **more)
    assert torch.autograd.gradcheck(lambda h, w, b: Head(w, b, **more).logps(h, targets), (hidden, head.weight, head.bias))


def test_frozen_weights_get_no_gradient() -> None:
    head, hidden, targets = make(20, 5, torch.float32)
    frozen = Head(head.weight.detach(), None)
    frozen.logps(hidden, targets).sum().backward()
    assert hidden.grad is not None
    assert head.weight.grad is None


def test_log_softmax_is_float32_under_autocast() -> None:
    """In bfloat16 the products are rounded, the sum over the vocabulary is not."""
    head, hidden, targets = make(20, 500, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = head.logps(hidden, targets)
    assert got.dtype == torch.float32
    assert (got - plain(head, hidden, targets)).abs().max() < 0.1
    got.sum().backward()
    assert head.weight.grad is not None
    assert head.weight.grad.dtype == torch.float32


def test_full_logits_are_never_held(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0
    real = logps._logits

    def watched(*args: object) -> Tensor:
        nonlocal largest
        out = real(*args)
        largest = max(largest, out.numel())
        return out

    monkeypatch.setattr(logps, "_logits", watched)
    monkeypatch.setitem(logps.CHUNK, "cpu", 16 * 300)
    head, hidden, targets = make(400, 300, torch.float32)
    head.logps(hidden, targets).sum().backward()
    assert 0 < largest <= 16 * 300


def test_segment_sums() -> None:
    values = torch.arange(1.0, 11.0, requires_grad=True)
    sums = segment_sums(values, torch.tensor([3, 1, 6]))
    assert sums.tolist() == [6.0, 4.0, 45.0]
    (sums * torch.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [1.0] * 3 + [10.0] + [100.0] * 6
