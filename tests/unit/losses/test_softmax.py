"""The sampled softmax: by hand, as shares, and against torch's cross entropy."""

from __future__ import annotations

import math

import pytest
import torch

from mmssl_dist.losses import sampled_softmax


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_by_hand():
    user, positive = torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    candidates = torch.tensor([[0.0, 2.0], [5.0, 0.0], [-1.0, 0.0]])  # cosines 0, 1, -1; the second is known
    loss = sampled_softmax(
        user=user,
        positive=positive,
        candidates=candidates,
        known=torch.tensor([[False, True, False]]),
        temperature=0.5,
        count=1,
    )
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2) + math.exp(-4)))


def test_equal_to_cross_entropy_and_shares_sum_to_it():
    user, positive, candidates = normal(7, 4, seed=1), normal(7, 4, seed=2), normal(9, 4, seed=3)
    user.requires_grad_()
    known = normal(7, 9, seed=4) > 0.5
    unit = torch.nn.functional.normalize
    scores = (
        torch.cat([(unit(user) * unit(positive)).sum(1, keepdim=True), unit(user) @ unit(candidates).T], 1)
        / 0.1
    )
    masked = scores.masked_fill(torch.cat([torch.zeros(7, 1, dtype=torch.bool), known], 1), -torch.inf)
    wanted = torch.nn.functional.cross_entropy(masked, torch.zeros(7, dtype=torch.int64))
    parts = [slice(0, 3), slice(3, 3), slice(3, 7)]
    total = sum(
        (
            sampled_softmax(
                user=user[p],
                positive=positive[p],
                candidates=candidates,
                known=known[p],
                temperature=0.1,
                count=7,
            )
            for p in parts
        ),
        torch.zeros(()),
    )
    assert total.item() == pytest.approx(wanted.item(), rel=1e-5)
    ours, theirs = torch.autograd.grad(total, user)[0], torch.autograd.grad(wanted, user)[0]
    torch.testing.assert_close(ours, theirs)


def test_finite_with_zero_rows_all_known_and_a_small_temperature():
    user, positive = normal(3, 4, seed=1), normal(3, 4, seed=2)
    user[0], positive[1] = 0, 0
    user.requires_grad_()
    known = torch.tensor([[True, True], [False, True], [False, False]])
    loss = sampled_softmax(
        user=user, positive=positive, candidates=normal(2, 4, seed=3), known=known, temperature=0.002, count=3
    )
    loss.backward()
    assert loss.isfinite()
    assert user.grad is not None
    assert user.grad.isfinite().all()
    assert not user.grad[0].any()
