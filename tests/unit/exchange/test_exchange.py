"""The exchange of a single worker: plain indexing, and nothing in the way of gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmssl_dist.exchange.exchange import Exchange

ALONE = Exchange(None, np.array([0, 6]), 0)


def test_what_it_owns():
    assert (ALONE.first, ALONE.rows, ALONE.world_size) == (0, 6, 1)
    assert ALONE.max(4) == 4
    assert ALONE.gather_counts(3) == (3,)


@pytest.mark.parametrize("ids", [[0, 2, 5], [], [3]])
def test_fetch_is_indexing(ids):
    table = torch.arange(12.0).view(6, 2).requires_grad_()
    route = ALONE.route(torch.tensor(ids, dtype=torch.int64))
    assert route.received_counts == route.requested_counts == (len(ids),)
    fetched = ALONE.fetch(route, table.index_select(0, route.requested))
    assert torch.equal(fetched, table[ids])
    fetched.square().sum().backward()
    wanted = torch.zeros(6, 2)
    wanted[ids] = 2 * table.detach()[ids]
    assert torch.equal(table.grad, wanted)


def test_fetch_ragged_and_gather_are_what_they_get():
    route = ALONE.route(torch.tensor([1, 4]))
    counts, (values, more) = ALONE.fetch_ragged(
        route, torch.tensor([2, 1]), [torch.arange(3), torch.ones(3, 2)]
    )
    assert (counts.tolist(), values.tolist(), more.shape) == ([2, 1], [0, 1, 2], (3, 2))
    rows = torch.ones(2, 3, requires_grad=True)
    ALONE.gather_rows(rows, (2,)).sum().backward()
    assert torch.equal(rows.grad, torch.ones(2, 3))


def test_sum_has_no_gradient_and_leaves_its_input_alone():
    values = torch.ones(2, requires_grad=True)
    assert not ALONE.sum(values).requires_grad
    assert values.requires_grad


def test_several_workers_need_a_group():
    with pytest.raises(ValueError, match="2 workers need a process group"):
        Exchange(None, np.array([0, 3, 6]), 0)
