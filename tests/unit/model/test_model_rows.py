"""Unit length and dropout of rows, zero rows included."""

from __future__ import annotations

import pytest
import torch

from mmssl_dist.model.row_functions import dropout, normalize


def test_normalize_by_hand():
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-10, 0.0], [1e-13, 0.0], [-1e6, 0.0]])
    assert torch.allclose(normalize(x), torch.tensor([[0.6, 0.8], [0, 0], [1, 0], [0, 0], [-1, 0]]))


def test_normalize_gradient():
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    normalize(x)[:, 0].sum().backward()
    # d(a / |x|) = (b^2, -a b) / |x|^3
    assert torch.allclose(x.grad, torch.tensor([[16 / 125, -12 / 125], [0, 0]]))


def test_normalize_second_derivative_is_finite_at_zero():
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    (first,) = torch.autograd.grad(normalize(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad((first**2).sum(), x)
    assert second.isfinite().all()


def test_normalize_derivatives_are_those_of_finite_differences():
    x = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(normalize, (x,))
    assert torch.autograd.gradgradcheck(normalize, (x,))


def test_dropout_depends_on_node_and_key_only():
    rows, ids = torch.ones(500, 64), torch.arange(500) * 7
    whole = dropout(rows, ids, key=3, rate=0.2)
    order = torch.randperm(500, generator=torch.Generator().manual_seed(0))[:100]
    assert torch.equal(dropout(rows[:100], ids[order], 3, 0.2), whole[order])
    assert not torch.equal(dropout(rows, ids, 4, 0.2), whole)
    assert set(whole.unique().tolist()) == {0.0, 1.25}
    assert abs((whole == 0).float().mean() - 0.2) < 4 * (0.16 / whole.numel()) ** 0.5
    assert abs(whole.mean() - 1) < 0.012


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_dropout_gradient_is_the_mask(rate):
    rows = torch.ones(10, 8, requires_grad=True)
    out = dropout(rows, torch.arange(10), 1, rate)
    out.sum().backward()
    assert torch.equal(rows.grad, out.detach())
