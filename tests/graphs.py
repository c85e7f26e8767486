"""Bipartite graphs in memory, cut into partitions, for tests of what a worker does with its share of one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import strategies as st

from mmssl_dist.graph.partition_book import PartitionBook
from mmssl_dist.graph.partition_files import PartitionData
from mmssl_dist.sharding.partitions import LocalGraph, join_partitions
from mmssl_dist.sharding.topology import Adjacency

Pairs = Sequence[tuple[int, int]]


def lists_of(rows: Sequence[Sequence[int]], weights: Sequence[float] | None = None) -> Adjacency:
    """An adjacency from each row's neighbours."""
    indptr = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)
    neighbours = torch.tensor([node for row in rows for node in row], dtype=torch.int64)
    weight = torch.ones(len(neighbours)) if weights is None else torch.tensor(weights)
    return Adjacency(indptr, neighbours, weight)


def user_nodes(book: PartitionBook) -> list[int]:
    """Node id of every user, in node order."""
    return [node for part in range(book.parts) for node in range(*book.user_range(part))]


def item_nodes(book: PartitionBook) -> list[int]:
    """Node id of every item, in node order."""
    return [node for part in range(book.parts) for node in range(*book.item_range(part))]


def neighbours_of(book: PartitionBook, pairs: Pairs) -> list[list[int]]:
    """Per node its sorted neighbours; pairs are (rank of a user, rank of an item) in node order."""
    users, items = user_nodes(book), item_nodes(book)
    result: list[set[int]] = [set() for _ in range(book.num_nodes)]
    for user, item in pairs:
        result[users[user]].add(items[item])
        result[items[item]].add(users[user])
    return [sorted(neighbours) for neighbours in result]


def cut(book: PartitionBook, pairs: Pairs, held_out: Pairs = ()) -> list[PartitionData]:
    """Every partition; validation holds ``held_out`` and test the same reversed. The one modality's rows are
    [node id, 1], so that a row that comes from the wrong node shows."""
    lists, held = neighbours_of(book, pairs), neighbours_of(book, held_out)
    degree = np.array([len(neighbours) for neighbours in lists], np.float64)
    parts = []
    for part in range(book.parts):
        first, last = int(book.bounds[part]), int(book.bounds[part + 1])
        flat = np.array([n for row in lists[first:last] for n in row], np.int64)
        sizes = [len(row) for row in lists[first:last]]
        own = np.repeat(np.arange(first, last), sizes)
        mine = held[slice(*book.user_range(part))]
        split = (
            np.cumsum([0, *map(len, mine)]).astype(np.int64),
            np.array([n for row in mine for n in row], np.int64),
        )
        parts.append(
            PartitionData(
                part=part,
                users=book.users[part],
                items=book.items[part],
                indptr=np.cumsum([0, *sizes]).astype(np.int64),
                neighbours=flat,
                weight=(1 / np.sqrt(degree[own] * degree[flat])).astype(np.float32),
                held_out={"validation": split, "test": split},
                similar={},
                propagated={
                    "image": np.stack([np.arange(first, last), np.ones(last - first)], 1).astype(np.float32)
                },
            )
        )
    return parts


def local_graph(
    book: PartitionBook, pairs: Pairs, rank: int = 0, workers: int = 1, held_out: Pairs = ()
) -> LocalGraph:
    """What worker ``rank`` of ``workers`` holds."""
    parts = cut(book, pairs, held_out)
    return join_partitions(book, [parts[part] for part in book.worker_parts(rank, workers)])


def dense(book: PartitionBook, pairs: Pairs) -> torch.Tensor:
    """float64 [n, n]: the weights of the whole graph as a matrix."""
    matrix = torch.zeros(book.num_nodes, book.num_nodes, dtype=torch.float64)
    for node, neighbours in enumerate(neighbours_of(book, pairs)):
        matrix[node, neighbours] = 1.0
    degree = matrix.sum(1).clamp(min=1)
    return matrix / torch.sqrt(degree[:, None] * degree[None])


@st.composite
def small_graphs(draw: st.DrawFn, least_parts: int = 1) -> tuple[PartitionBook, list[tuple[int, int]]]:
    """A book of up to 4 partitions, some without users or items, and distinct pairs; no user knows every
    item."""
    parts = draw(st.integers(least_parts, 4))
    users = draw(st.lists(st.integers(0, 4), min_size=parts, max_size=parts).filter(any))
    items = draw(
        st.lists(st.integers(0, 4), min_size=parts, max_size=parts).filter(lambda sizes: sum(sizes) >= 2)
    )
    book = PartitionBook(tuple(users), tuple(items))
    pair = st.tuples(st.integers(0, sum(users) - 1), st.integers(0, sum(items) - 1))
    pairs = draw(st.lists(pair, min_size=1, max_size=40, unique=True))
    spared = {user: draw(st.integers(0, sum(items) - 1)) for user in range(sum(users))}
    kept = [(u, i) for u, i in pairs if spared[u] != i]
    return book, kept or [(0, (spared[0] + 1) % sum(items))]
