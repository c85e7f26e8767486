"""Partitions side by side make the same rows as the whole graph, whoever holds them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmssl_dist.exchange.worker import Worker
from mmssl_dist.graph.partition_book import PartitionBook
from mmssl_dist.graph.partition_files import PartitionData
from mmssl_dist.sharding.partitions import join_partitions
from tests.graphs import cut, item_nodes, lists_of, local_graph, neighbours_of, small_graphs, user_nodes


@given(small_graphs(), st.data())
def test_shares_of_any_number_of_workers_make_the_whole(case, data):
    book, pairs = case
    held_out = [(user, item) for item, user in enumerate(range(min(book.num_users, book.num_items)))]
    wanted, held = neighbours_of(book, pairs), neighbours_of(book, held_out)
    workers = data.draw(st.integers(1, book.parts))
    seen = 0
    for rank in range(workers):
        graph = local_graph(book=book, pairs=pairs, rank=rank, workers=workers, held_out=held_out)
        nodes = range(graph.first, graph.first + graph.num_rows)
        everyone = torch.arange(graph.num_rows)
        assert graph.first == seen
        for split in ("validation", "test"):
            counts, edges = graph.held_out[split].edges(everyone)
            users = set(user_nodes(book))
            assert counts.tolist() == [len(held[n]) if n in users else 0 for n in nodes]
            assert graph.held_out[split].neighbours[edges].tolist() == [
                m for n in nodes if n in users for m in held[n]
            ]
        counts, edges = graph.training.edges(everyone)
        assert counts.tolist() == [len(wanted[n]) for n in nodes]
        assert graph.training.neighbours[edges].tolist() == [m for n in nodes for m in wanted[n]]
        degree = lists_of(wanted).degrees(torch.arange(book.num_nodes)).float()
        own = torch.repeat_interleave(everyone, counts) + graph.first
        torch.testing.assert_close(
            graph.training.weight, torch.rsqrt(degree[own] * degree[graph.training.neighbours])
        )
        assert graph.propagated["image"][:, 0].tolist() == list(nodes)
        assert (graph.users + graph.first).tolist() == [n for n in user_nodes(book) if n in nodes]
        assert (graph.items + graph.first).tolist() == [n for n in item_nodes(book) if n in nodes]
        seen += graph.num_rows
    assert seen == book.num_nodes


def test_rows_of_each_part():
    book = PartitionBook((2, 0, 3), (1, 4, 0))
    graph = local_graph(book, [(0, 1), (4, 0)], rank=1, workers=2)  # parts 1 and 2
    assert (graph.first, graph.offsets, graph.parts) == (3, (0, 4, 7), range(1, 3))
    assert (graph.user_rows(1), graph.item_rows(1)) == (range(0), range(4))
    assert (graph.user_rows(2), graph.item_rows(2)) == (range(4, 7), range(7, 7))
    alone = local_graph(book, [(0, 1)]).exchange(
        Worker(rank=0, world_size=1, device=torch.device("cpu"), cache=Path("unused"), group=None)
    )
    assert (alone.first, alone.rows) == (0, 10)


def test_neighbours_must_be_in_order():
    parts = cut(PartitionBook((1, 1), (1, 1)), [(0, 0)])
    with pytest.raises(AssertionError):
        join_partitions(PartitionBook((1, 1), (1, 1)), parts[::-1])


def mapped(data: PartitionData, folder: Path) -> PartitionData:
    """The same, as read-only maps of files."""

    def array(name: str, values: np.ndarray) -> np.ndarray:
        np.save(folder / f"{data.part}-{name}.npy", values)
        return np.load(folder / f"{data.part}-{name}.npy", mmap_mode="r")

    return PartitionData(
        part=data.part,
        users=data.users,
        items=data.items,
        indptr=array("indptr", data.indptr),
        neighbours=array("neighbours", data.neighbours),
        weight=array("weight", data.weight),
        held_out={
            split: (array(f"{split}-indptr", indptr), array(f"{split}-items", items))
            for split, (indptr, items) in data.held_out.items()
        },
        propagated={m: array(m, rows) for m, rows in data.propagated.items()},
        similar={},
    )


@pytest.mark.parametrize("parts", [1, 2])
def test_mapped_files_stay_as_they_are(tmp_path, parts, recwarn):
    book = PartitionBook((2,) * parts, (2,) * parts)
    pairs = [(0, 0), (1, 1), (1, 0)]
    graph = join_partitions(
        book, [mapped(data, tmp_path) for data in cut(book, pairs)]
    )  # nothing held out: empty maps
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    plain = local_graph(book, pairs)
    for ours, theirs in ((graph.training, plain.training), (graph.held_out["test"], plain.held_out["test"])):
        assert torch.equal(ours.indptr, theirs.indptr)
        assert torch.equal(ours.neighbours, theirs.neighbours)
        assert torch.equal(ours.weight, theirs.weight)
    graph.propagated["image"].add_(1)  # a stray write
    graph.training.weight.zero_()
    assert kept == {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert not recwarn.list
