"""BPR, L2 and the contrastive loss: by hand, and as shares that sum to the loss however rows are split."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmssl_dist.losses import bpr, contrastive, l2
from tests.oracle import reference as oracle


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_bpr_by_hand():
    user, positive = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[2.0, 5.0], [1.0, 1.0]])
    loss = bpr(user, positive, torch.zeros(2, 2), count=2)
    assert loss.item() == pytest.approx((math.log1p(math.exp(-2)) + math.log(2)) / 2)
    assert bpr(user, positive, torch.zeros(2, 2), count=4).item() == pytest.approx(loss.item() / 2)


def test_bpr_far_apart_is_finite():
    user = torch.tensor([[100.0], [-100.0]], requires_grad=True)
    loss = bpr(user, torch.full((2, 1), 100.0), torch.zeros(2, 1), count=2)
    assert loss.item() == pytest.approx(5000)
    loss.backward()
    assert user.grad.tolist() == [[0.0], [-50.0]]


def test_l2_by_hand():
    assert l2(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [0.0]]), count=7).item() == pytest.approx(1.0)


@given(st.integers(1, 12), st.data())
def test_contrastive_shares_sum_to_the_oracle(b, data):
    owner = torch.tensor(data.draw(st.lists(st.integers(0, 2), min_size=b, max_size=b)))
    x, y = normal(b, 4, seed=1).requires_grad_(), normal(b, 4, seed=2).requires_grad_()
    total = torch.zeros(())
    for worker in range(3):
        mine = (owner == worker).nonzero().squeeze(1)
        total = total + contrastive(
            x_local=x[mine], y_local=y[mine], x_all=x, y_all=y, positions=mine, temperature=0.5, count=b
        )
    wanted = oracle.contrastive(x.detach().numpy().astype(float), y.detach().numpy().astype(float), 0.5)
    assert total.item() == pytest.approx(wanted, abs=1e-5)
    whole = contrastive(
        x_local=x, y_local=y, x_all=x, y_all=y, positions=torch.arange(b), temperature=0.5, count=b
    )
    for a, c in zip(torch.autograd.grad(total, (x, y)), torch.autograd.grad(whole, (x, y)), strict=True):
        assert torch.allclose(a, c, atol=1e-6)


def test_contrastive_at_a_small_temperature_and_with_zero_rows():
    x, y = normal(6, 4, seed=1), normal(6, 4, seed=2)
    x[2], y[4] = 0, 0
    x.requires_grad_()
    y.requires_grad_()
    loss = contrastive(
        x_local=x, y_local=y, x_all=x, y_all=y, positions=torch.arange(6), temperature=0.005, count=6
    )  # exp(1 / 0.005) overflows float32
    loss.backward()
    assert loss.isfinite()
    assert x.grad.isfinite().all()
    assert y.grad.isfinite().all()
    assert torch.equal(x.grad[2], torch.zeros(4))
    a, c = (torch.nn.functional.normalize(t.detach().double(), dim=1) for t in (x, y))
    within, between = (a @ a.T / 0.005).exp().fill_diagonal_(0), (a @ c.T / 0.005).exp()
    wanted = -(between.diagonal() / (within.sum(1) + between.sum(1)) + 1e-8).log().mean()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-4)


def test_a_worker_without_rows_contributes_nothing():
    none = torch.zeros(0, 4, requires_grad=True)
    x = normal(3, 4)
    ids = torch.zeros(0, dtype=torch.int64)
    loss = (
        bpr(none, none, none, 3)
        + l2(none, count=3)
        + contrastive(x_local=none, y_local=none, x_all=x, y_all=x, positions=ids, temperature=0.5, count=3)
    )
    loss.backward()
    assert loss.item() == 0
    assert none.grad.shape == (0, 4)
