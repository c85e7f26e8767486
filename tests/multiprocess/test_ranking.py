"""Two and three workers rank as one does, also when a worker has no items or no users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.distributed as dist

from mmssl_dist.errors import NonFiniteError
from mmssl_dist.evaluation.evaluate import metrics_of
from mmssl_dist.evaluation.metrics import sums_of
from mmssl_dist.evaluation.ranking import Ranking, Seen, top_k
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.graph.partition_book import PartitionBook
from tests.graphs import lists_of
from tests.processes import run_workers

K = 10


@dataclass(frozen=True)
class World:
    """Rows of all nodes; users and items distinguished by the book; per node, the items it has seen or holds
    out."""

    book: PartitionBook
    rows: torch.Tensor
    seen: list[list[int]]
    held_out: list[list[int]]


def make_world(book: PartitionBook) -> World:
    rng = np.random.default_rng(1)
    rows = torch.from_numpy(
        rng.integers(-3, 4, (book.num_nodes, 4)).astype(np.float32)
    )  # exact scores, many ties
    items = book.item_nodes(np.arange(book.num_items))
    drawn = [rng.choice(items, 8, replace=False) for _ in range(book.num_nodes)]
    return World(book, rows, [sorted(d[:5].tolist()) for d in drawn], [sorted(d[5:].tolist()) for d in drawn])


def csr(lists: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    indptr = np.concatenate([[0], np.cumsum([len(nodes) for nodes in lists])])
    nodes = [node for row in lists for node in row]
    return torch.from_numpy(indptr.astype(np.int64)), torch.tensor(nodes, dtype=torch.int64)


def rank_shard(
    rank: int, world_size: int, world: World, poison: bool = False
) -> tuple[torch.Tensor, Ranking, dict[str, float]]:
    parts = world.book.worker_parts(rank, world_size)
    users = torch.cat([torch.arange(*world.book.user_range(part)) for part in parts])
    items = torch.cat([torch.arange(*world.book.item_range(part)) for part in parts])
    group = dist.group.WORLD if world_size > 1 else None
    exchange = Exchange(group, world.book.worker_bounds(world_size), rank)
    item_rows = world.rows[items].clone()
    if poison and rank == 1:
        item_rows[0, 0] = torch.nan
    ranking = top_k(
        users=world.rows[users],
        seen=[Seen(*csr([world.seen[u] for u in users]))],
        items=item_rows,
        item_nodes=items,
        k=K,
        user_block=7,
        item_block=20,
        exchange=exchange,
    )
    metrics = metrics_of(ranking, users, lists_of([world.held_out[u] for u in users]), (5, K))
    return users, ranking, sums_of(metrics.values, (5, K)).over_workers(exchange).means()


@pytest.mark.parametrize(
    "book",
    [
        PartitionBook((40, 30), (150, 90)),
        PartitionBook((0, 30), (60, 0)),
        PartitionBook((20, 3, 9), (70, 5, 64)),
    ],
    ids=["both kinds everywhere", "users and items apart", "three parts"],
)
def test_same_ranking_and_metrics_for_any_number_of_workers(book: PartitionBook) -> None:
    world = make_world(book)
    users, alone, metrics = rank_shard(0, 1, world)
    shards = run_workers(book.parts, rank_shard, book.parts, world)
    assert torch.equal(torch.cat([shard[0] for shard in shards]), users)
    assert torch.equal(torch.cat([shard[1].nodes for shard in shards]), alone.nodes)
    assert torch.equal(torch.cat([shard[1].scores for shard in shards]), alone.scores)
    assert (alone.nodes >= 0).all()
    for shard in shards:
        assert shard[2] == pytest.approx(metrics, abs=1e-12)


def refuse(rank: int, world: World) -> str:
    with pytest.raises(NonFiniteError) as caught:
        rank_shard(rank, 2, world, poison=True)
    return str(caught.value)


def test_one_workers_bad_row_stops_all() -> None:
    messages = run_workers(2, refuse, make_world(PartitionBook((4, 4), (9, 9))))
    assert all("NaN" in message for message in messages)
