"""The lazy row-wise Adam against torch's SparseAdam, and against one written out for a single moment per
row."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mmssl_dist.config.training_sections import RowOptimizer
from mmssl_dist.exchange.exchange import Exchange, Route
from mmssl_dist.sharding.table import FrozenColumns, RowTable

N, D, RATE = 9, 4, 0.05


def rows() -> torch.Tensor:
    return torch.randn(N, D, generator=torch.Generator().manual_seed(0))


def steps(count: int = 12) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(sorted unique row numbers, gradients); some steps are empty, row N - 1 is never among them."""
    rng = np.random.default_rng(1)
    drawn = []
    for number in range(count):
        size = 0 if number == 4 else int(rng.integers(1, 6))
        index = torch.from_numpy(np.sort(rng.choice(N - 1, size, replace=False)))
        drawn.append((index, torch.from_numpy(rng.normal(size=(size, D)).astype(np.float32))))
    return drawn


def alone(index: torch.Tensor) -> Route:
    return Exchange(None, np.array([0, N]), 0).route(index)


def test_element_moments_are_sparse_adams():
    parameter = torch.nn.Parameter(rows())
    reference = torch.optim.SparseAdam([parameter], lr=RATE)
    table = RowTable(rows(), RowOptimizer(learning_rate=RATE))
    for index, gradient in steps():
        parameter.grad = torch.sparse_coo_tensor(
            index[None], gradient, (N, D), check_invariants=True
        ).coalesce()
        reference.step()
        table.update(alone(index), gradient)
        torch.testing.assert_close(table.rows, parameter.detach(), atol=1e-6, rtol=1e-6)
    assert table.steps == 12


def test_row_moments_by_hand():
    table = RowTable(rows(), RowOptimizer(learning_rate=RATE, second_moment="row"))
    assert table.second_moment.shape == (N, 1)
    x, first, second = rows().double().numpy(), np.zeros((N, D)), np.zeros(N)
    for number, (index, gradient) in enumerate(steps(), start=1):
        for row, g in zip(index.tolist(), gradient.double().numpy(), strict=True):
            first[row] = 0.9 * first[row] + 0.1 * g
            second[row] = 0.999 * second[row] + 0.001 * (g**2).mean()
            length = math.sqrt(second[row] / (1 - 0.999**number)) + 1e-8
            x[row] -= RATE * first[row] / (1 - 0.9**number) / length
        table.update(alone(index), gradient)
    np.testing.assert_allclose(table.rows, x, atol=1e-5)
    np.testing.assert_allclose(table.first_moment, first, atol=1e-6)
    np.testing.assert_allclose(table.second_moment[:, 0], second, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["element", "row"])
def test_what_several_workers_ask_for_gets_the_sum(optimizer):
    settings = RowOptimizer(learning_rate=RATE, second_moment=optimizer)
    together, separate = RowTable(rows(), settings), RowTable(rows(), settings)
    gradient = torch.randn(6, D, generator=torch.Generator().manual_seed(2))
    # The first worker asks for 1, 3 and 7, the second for nothing, the third for 0, 3 and 7
    together.update(Route((0, 0, 0), torch.tensor([1, 3, 7, 0, 3, 7]), (3, 0, 3)), gradient)
    summed = torch.stack([gradient[3], gradient[0], gradient[1] + gradient[4], gradient[2] + gradient[5]])
    separate.update(alone(torch.tensor([0, 1, 3, 7])), summed)
    for name in ("rows", "first_moment", "second_moment"):
        torch.testing.assert_close(getattr(together, name), getattr(separate, name))
    assert together.steps == separate.steps == 1


@pytest.mark.parametrize("optimizer", ["element", "row"])
def test_rows_that_nobody_asks_for_never_move(optimizer):
    table = RowTable(rows(), RowOptimizer(learning_rate=RATE, second_moment=optimizer))
    moved = set()
    for index, gradient in steps():
        before = table.rows.clone()
        table.update(alone(index), gradient)
        still = np.setdiff1d(np.arange(N), index)
        assert torch.equal(table.rows[still], before[still])
        moved |= set(index.tolist())
    assert torch.equal(table.rows[N - 1], rows()[N - 1])
    assert torch.equal(table.first_moment[N - 1], torch.zeros(D))
    assert len(moved) > 5


@pytest.mark.parametrize("optimizer", ["element", "row"])
def test_frozen_columns_stay_and_the_others_move(optimizer):
    marked = torch.arange(N) % 2 == 1
    table = RowTable(
        rows(), RowOptimizer(learning_rate=RATE, second_moment=optimizer), FrozenColumns(marked, 3)
    )
    free = RowTable(rows(), RowOptimizer(learning_rate=RATE))
    for index, gradient in steps():
        table.update(alone(index), gradient)
        free.update(alone(index), gradient)
    assert torch.equal(table.rows[marked, 1:], rows()[marked, 1:])
    moved = torch.arange(N) < N - 1
    assert (table.rows[marked & moved, :1] != rows()[marked & moved, :1]).all()
    if optimizer == "element":
        assert torch.equal(table.rows[~marked], free.rows[~marked])


def test_a_read_is_a_leaf_apart_from_the_table():
    table = RowTable(rows(), RowOptimizer())
    leaf = table.read(alone(torch.tensor([2, 5])))
    (leaf * 3).sum().backward()
    assert leaf.is_leaf
    assert torch.equal(leaf.grad, torch.full((2, D), 3.0))
    with torch.no_grad():
        leaf.zero_()
    assert torch.equal(table.rows, rows())
