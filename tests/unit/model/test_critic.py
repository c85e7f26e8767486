"""The candidate critic: tied to its items, indifferent to their order, number and length."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmssl_dist.model.critic import Critic
from mmssl_dist.model.row_functions import normalize

D, HIDDEN = 16, (24, 8)


def rows(b: int, c: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit rows [b, c] and item rows [c, D]."""
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.rand(b, c, generator=generator)), torch.randn(c, D, generator=generator)


def test_with_all_items_it_is_a_linear_critic_with_tied_weights():
    critic, (x, items) = Critic(D, HIDDEN, seed=1), rows(5, 40)
    dense = nn.Linear(40, HIDDEN[0])
    with torch.no_grad():
        dense.weight.copy_(critic.tie.weight @ normalize(items).T)
        dense.bias.copy_(critic.bias)
    hidden = critic.norms[0](nn.functional.leaky_relu(dense(x), 0.2))
    hidden = critic.norms[1](nn.functional.leaky_relu(critic.layers[0](hidden), 0.2))
    assert torch.allclose(critic(x, items), critic.output(hidden).squeeze(-1), atol=1e-6)


def test_order_of_candidates_and_length_of_item_rows_do_not_matter():
    critic, (x, items) = Critic(D, HIDDEN, seed=1), rows(5, 40)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(critic(x[:, order], items[order]), critic(x, items), atol=1e-6)
    assert torch.allclose(critic(x, items * torch.rand(40, 1).add(0.1)), critic(x, items), atol=1e-6)
    assert not torch.allclose(critic(x[:, order], items), critic(x, items), atol=1e-4)


def test_candidates_nobody_scores_do_not_matter():
    critic, (x, items) = Critic(D, HIDDEN, seed=1), rows(5, 40)
    wider = torch.cat([x, torch.zeros(5, 7)], 1)
    assert torch.allclose(
        critic(wider, torch.cat([items, rows(1, 7, seed=9)[1]])), critic(x, items), atol=1e-6
    )


@pytest.mark.parametrize("candidates", [512, 6710])
def test_sizes_at_the_start(candidates):
    critic = Critic(64, (64, 32), seed=0)
    generator = torch.Generator().manual_seed(0)
    items = 0.1 * torch.randn(candidates, 64, generator=generator)
    spread = normalize(torch.rand(64, candidates, generator=generator)).requires_grad_()
    known = normalize(
        (torch.rand(64, candidates, generator=generator) < 10 / candidates).float()
    ).requires_grad_()
    for x in (spread, known):
        first = x @ critic.first_layer(items)
        assert 0.05 < first.std() < 10
        score = critic(x, items)
        assert score.abs().max() < 1
        (slope,) = torch.autograd.grad(score.sum(), x)
        assert 0.1 < slope.norm(dim=1).mean() < 20  # the penalty asks for 1


def test_zero_rows_and_items_are_finite():
    critic = Critic(D, (8,), seed=0)
    x = torch.zeros(3, 6, requires_grad=True)
    critic(x, torch.zeros(6, D)).sum().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in critic.parameters())


def test_seed_and_bf16():
    a, b = Critic(D, HIDDEN, seed=1), Critic(D, HIDDEN, seed=1)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.tie.weight, Critic(D, HIDDEN, seed=2).tie.weight)
    x, items = rows(4, 30)
    low = b.to(torch.bfloat16)(x, items)
    assert low.dtype == torch.float32
    assert torch.allclose(low, a(x, items), atol=0.02)
