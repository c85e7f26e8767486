"""Blocks: the sum over edges and its gradient, against a case computed by hand and dense products."""

from __future__ import annotations

import threading
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmssl_dist.sampling.block import Block, SampledGraph, aggregate, make_block


def by_hand() -> Block:
    """Destinations read: 0 <- {2 with 1, 0 with 10}; 1 <- nothing; 2 <- {2 with 100, 2 with 1000}."""
    return make_block(
        indptr=torch.tensor([0, 2, 2, 4]),
        source=torch.tensor([2, 0, 2, 2]),
        weight=torch.tensor([1.0, 10.0, 100.0, 1000.0]),
        num_source=4,
        keep=torch.tensor([0, 1, 2]),
    )


def test_by_hand():
    block = by_hand()
    assert block.num_destination == 3
    assert block.t_indptr.tolist() == [0, 1, 1, 4, 4]
    assert block.t_source.tolist() == [0, 0, 2, 2]  # edges of source 2 in the order of their destinations
    assert block.t_weight.tolist() == [10.0, 1.0, 100.0, 1000.0]
    x = torch.tensor([[1.0, 0], [2, 0], [3, 1], [4, 0]], requires_grad=True)
    out = aggregate(block, x)
    assert out.tolist() == [[13.0, 1.0], [0.0, 0.0], [3300.0, 1100.0]]
    out.backward(torch.tensor([[1.0, 0], [5, 5], [2, 1]]))
    assert x.grad is not None
    assert x.grad.tolist() == [[10.0, 0.0], [0.0, 0.0], [2201.0, 1100.0], [0.0, 0.0]]


@given(st.integers(0, 6), st.integers(0, 7), st.data())
def test_equals_dense_product(rows, columns, data):
    edges = data.draw(
        st.lists(st.tuples(st.integers(0, rows - 1), st.integers(0, columns - 1)), max_size=30)
        if rows and columns
        else st.just([])
    )
    edges.sort(key=lambda edge: edge[0])
    weights = torch.tensor([float(i + 1) for i in range(len(edges))])
    indptr = torch.tensor([sum(r < bound for r, _ in edges) for bound in range(rows + 1)])
    source = torch.tensor([c for _, c in edges], dtype=torch.int64)
    block = make_block(
        indptr=indptr,
        source=source,
        weight=weights,
        num_source=columns,
        keep=torch.zeros(rows, dtype=torch.int64),
    )
    dense = torch.zeros(rows, columns)
    for (r, c), weight in zip(edges, weights, strict=True):
        dense[r, c] += weight
    x = torch.arange(columns * 3, dtype=torch.float32).view(columns, 3).requires_grad_()
    grad = torch.arange(rows * 3, dtype=torch.float32).view(rows, 3) - 4
    out = aggregate(block, x)
    out.backward(grad)
    assert torch.equal(out, dense @ x)
    assert torch.equal(x.grad, dense.T @ grad)


def test_gradient_that_is_not_contiguous():
    x = torch.ones(4, 2, requires_grad=True)
    aggregate(by_hand(), x).sum().backward()
    assert x.grad[:, 0].tolist() == [10.0, 0.0, 1101.0, 0.0]


def test_no_warning_and_filters_left_alone():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        aggregate(by_hand(), torch.ones(4, 2))
        filters = list(warnings.filters)
        aggregate(by_hand(), torch.ones(4, 2))
        assert warnings.filters == filters
    assert caught == []


def test_from_several_threads():
    block, x, wrong = by_hand(), torch.ones(4, 8), []

    def work():
        for _ in range(50):
            if aggregate(block, x)[2, 0] != 1100:
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_moves_to_a_device():
    block = by_hand()
    graph = SampledGraph(
        layers=(block,),
        views={"image": block},
        similar=None,
        start_keep=torch.arange(4),
        seeds=torch.arange(3),
        seeds_source=torch.arange(3),
    )
    moved = graph.to("meta")
    for moved_block in (moved.layers[0], moved.views["image"]):
        assert moved_block.num_source == 4
        names = ("indptr", "source", "weight", "keep", "t_indptr", "t_source", "t_weight")
        assert all(getattr(moved_block, name).device.type == "meta" for name in names)
    assert {t.device.type for t in (moved.start_keep, moved.seeds, moved.seeds_source)} == {"meta"}
    assert torch.equal(graph.to("cpu").layers[0].t_source, block.t_source)


def test_wrong_width_is_refused():
    with pytest.raises(RuntimeError):
        aggregate(by_hand(), torch.ones(3, 2))
