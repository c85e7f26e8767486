"""Perturbed rows: by hand, known gradients against autograd's, and what a step does to the loss."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmssl_dist.losses import RankedRows, RankingFunction, bpr, moved, sampled_softmax, with_gradients

KNOWN = torch.rand(6, 9, generator=torch.Generator().manual_seed(7)) < 0.3
LOSSES: dict[str, RankingFunction] = {
    "bpr": lambda user, positive, others: bpr(user, positive, others, 6),
    "softmax": lambda user, positive, others: sampled_softmax(
        user=user, positive=positive, candidates=others, known=KNOWN, temperature=0.2, count=6
    ),
}


def rows(name: str) -> RankedRows:
    generator = torch.Generator().manual_seed(3)
    counts = (6, 6, 6 if name == "bpr" else 9)
    return RankedRows(*(torch.randn(n, 4, generator=generator).requires_grad_() for n in counts))


def length(x: Tensor) -> Tensor:
    return x.norm(dim=1, keepdim=True)


def test_a_row_moves_along_its_gradient_by_hand():
    row, gradient = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[0.0, 2.0], [0.0, 0.0]])
    result = moved(row, gradient, 0.5 * length(row))
    assert result.tolist() == [[3.0, 6.5], [1.0, 0.0]]  # the second has no direction


def test_the_step_is_a_constant():
    row = torch.tensor([[3.0, 4.0]], requires_grad=True)
    gradient = torch.tensor([[1.0, 1.0]], requires_grad=True)
    moved(row, gradient * row, length(row)).sum().backward()
    assert row.grad is not None
    assert row.grad.tolist() == [[1.0, 1.0]]
    assert gradient.grad is None


def test_the_term_lengthens_rows_although_the_softmax_sees_directions_alone():
    loss, given = LOSSES["softmax"], rows("softmax")
    value, gradients = with_gradients(loss, given)
    plain = torch.autograd.grad(value, given)
    by = RankedRows(*(0.1 * length(x) for x in given))
    term = loss(*(moved(x, g, n) for x, g, n in zip(given, gradients, by, strict=True)))
    for x, of_loss, of_term in zip(given, plain, torch.autograd.grad(term, given), strict=True):
        assert (x * of_loss).sum(1).abs().max() < 1e-6
        assert (x * of_term).sum(1).max() < 0  # a descent makes every row longer


@pytest.mark.parametrize("name", LOSSES)
def test_known_gradients_are_those_of_the_loss(name):
    loss, inputs = LOSSES[name], rows(name)
    value, gradients = with_gradients(loss, inputs)
    wanted = loss(*inputs)
    assert value.item() == wanted.item()
    slopes = torch.autograd.grad(wanted, inputs)
    for ours, theirs in zip(gradients, slopes, strict=True):
        torch.testing.assert_close(ours, theirs)
    for ours, theirs in zip(torch.autograd.grad(3 * value, inputs), slopes, strict=True):
        torch.testing.assert_close(ours, 3 * theirs)


@pytest.mark.parametrize("name", LOSSES)
def test_moved_rows_have_a_higher_loss_and_no_other_direction_a_higher_one(name):
    loss, inputs = LOSSES[name], rows(name)
    value, gradients = with_gradients(loss, inputs)
    small = RankedRows(*(1e-3 * length(x) for x in inputs))
    along = loss(*map(moved, inputs, gradients, small))
    assert along.item() > value.item()
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        directions = [torch.randn(x.shape, generator=generator) for x in inputs]
        assert loss(*map(moved, inputs, directions, small)).item() < along.item()


@pytest.mark.parametrize("name", LOSSES)
def test_the_terms_gradient_by_finite_differences(name):
    """With the steps held fixed, as the term holds them."""
    loss = LOSSES[name]
    inputs = RankedRows(*(x.detach().double().requires_grad_() for x in rows(name)))
    _, gradients = with_gradients(loss, inputs)
    lengths = RankedRows(*(0.2 * length(x).detach() for x in inputs))
    steps = [moved(torch.zeros_like(x), g, by) for x, g, by in zip(inputs, gradients, lengths, strict=True)]
    ours = torch.autograd.grad(loss(*map(moved, inputs, gradients, lengths)), inputs)
    for number, x in enumerate(inputs):
        for row, column in ((0, 0), (3, 2), (5, 1)):
            values = []
            for sign in (1, -1):
                shifted = [part.detach().clone() for part in inputs]
                shifted[number][row, column] += sign * 1e-5
                values.append(loss(*(part + step for part, step in zip(shifted, steps, strict=True))).item())
            slope = (values[0] - values[1]) / 2e-5
            assert ours[number][row, column].item() == pytest.approx(slope, rel=1e-5, abs=1e-8), x.shape


def test_a_worker_without_pairs_contributes_nothing():
    none = torch.zeros(0, 4, requires_grad=True)
    others = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    known = torch.zeros(0, 3, dtype=torch.bool)
    inputs = RankedRows(none, none, others)
    value, gradients = with_gradients(
        lambda u, p, c: sampled_softmax(
            user=u, positive=p, candidates=c, known=known, temperature=0.2, count=5
        ),
        inputs,
    )
    value.backward()
    assert value.item() == 0
    assert not gradients.others.any()
    assert others.grad is not None
    assert not others.grad.any()
