"""Neighbour lists against plain Python."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from mmssl_dist.graph.ragged import ragged_range
from mmssl_dist.sharding.topology import adjacency_from_pairs
from tests.graphs import lists_of

rows_of_nodes = st.lists(
    st.lists(st.integers(0, 12), max_size=8, unique=True).map(sorted), min_size=1, max_size=6
)


@given(st.lists(st.tuples(st.integers(-5, 20), st.integers(0, 5)), max_size=8))
def test_ragged_range(ranges):
    starts, counts = (torch.tensor([pair[side] for pair in ranges], dtype=torch.int64) for side in range(2))
    wanted = [value for start, count in ranges for value in range(start, start + count)]
    assert ragged_range(starts, counts).tolist() == wanted


@given(rows_of_nodes, st.data())
def test_contains(lists, data):
    pairs = data.draw(st.lists(st.tuples(st.integers(0, len(lists) - 1), st.integers(-1, 14)), max_size=30))
    rows, nodes = (torch.tensor([pair[side] for pair in pairs], dtype=torch.int64) for side in range(2))
    assert lists_of(lists).contains(rows, nodes).tolist() == [node in lists[row] for row, node in pairs]


def test_contains_in_long_rows_beside_empty_ones():
    lists = lists_of([[], list(range(0, 2000, 2)), [], [7], []])
    nodes = torch.arange(-1, 2001)
    for row, wanted in ((1, (nodes % 2 == 0) & (nodes >= 0) & (nodes < 2000)), (3, nodes == 7)):
        assert torch.equal(lists.contains(torch.full_like(nodes, row), nodes), wanted)
    for row in (0, 2, 4):
        assert not lists.contains(torch.full_like(nodes, row), nodes).any()


@given(rows_of_nodes, st.data())
def test_degrees_and_edges(lists, data):
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=10))
    adjacency = lists_of(lists)
    counts, edges = adjacency.edges(torch.tensor(rows, dtype=torch.int64))
    assert counts.tolist() == [len(lists[row]) for row in rows]
    assert adjacency.neighbours[edges].tolist() == [node for row in rows for node in lists[row]]


@given(rows_of_nodes, st.randoms(use_true_random=False))
def test_from_pairs_in_any_order(lists, random):
    pairs = [(row, node) for row, nodes in enumerate(lists) for node in nodes]
    random.shuffle(pairs)
    rows, nodes = (torch.tensor([pair[side] for pair in pairs], dtype=torch.int64) for side in range(2))
    made = adjacency_from_pairs(rows, nodes, len(lists))
    assert made.indptr.tolist() == lists_of(lists).indptr.tolist()
    assert made.neighbours.tolist() == [node for nodes in lists for node in nodes]
    wanted = torch.tensor([1 / math.sqrt(len(nodes)) for nodes in lists for _ in nodes])
    torch.testing.assert_close(made.weight, wanted)
