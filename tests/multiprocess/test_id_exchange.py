"""External ids travel between workers without loss, whatever their type."""

from __future__ import annotations

import datetime
import decimal
import uuid

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed as dist

from mmssl_dist.errors import InputError
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.export.id_exchange import LocalIds, fetch_external_ids, ranked_ids
from tests.processes import run_workers

N = 30
TEXTS = [("" if i == 4 else "ä€😀"[: i % 4] + "x" * (i % 9) + str(i)) for i in range(N)]
DAY = datetime.datetime(2024, 2, 29, 12, 30, 15, 123456)
BYTES = pa.array([uuid.UUID(int=i).bytes for i in range(N)], pa.binary(16))
IDS: dict[str, pa.Array] = {
    "int64": pa.array([i**9 * (-1) ** i for i in range(N)], pa.int64()),
    "uint64": pa.array([2**64 - 1 - i for i in range(N)], pa.uint64()),
    "int8": pa.array(range(N), pa.int8()),
    "double": pa.array([i + 0.1 for i in range(N)], pa.float64()),
    "bool": pa.array([i % 3 == 0 for i in range(N)]),
    "string": pa.array(TEXTS),
    "large_string": pa.array(TEXTS, pa.large_string()),
    "binary": pa.array([bytes([0, i, 255]) * (i % 3) for i in range(N)]),
    "timestamp": pa.array(
        [DAY + datetime.timedelta(microseconds=i) for i in range(N)], pa.timestamp("us", tz="UTC")
    ),
    "date": pa.array([DAY.date() + datetime.timedelta(days=i) for i in range(N)]),
    "decimal": pa.array([decimal.Decimal(f"{i}.25") for i in range(N)], pa.decimal128(10, 2)),
    "fixed": BYTES,
    "uuid": pa.ExtensionArray.from_storage(pa.uuid(), BYTES),
    "dictionary": pa.array(TEXTS).dictionary_encode(),
}


def fetch(rank: int, world_size: int, kinds: list[str]) -> list[list[object]]:
    """Owners have every node of their range but the first, which stands for a user; rank r asks for its own
    choice."""
    bounds = np.linspace(0, N, world_size + 1).astype(np.int64)
    exchange = Exchange(dist.group.WORLD if world_size > 1 else None, bounds, rank)
    own = np.arange(bounds[rank] + 1, bounds[rank + 1])
    results = []
    for id_type in kinds:
        local = LocalIds(own, IDS[id_type].take(pa.array(own)))
        for wanted in (wish(rank, world_size), torch.empty(0, dtype=torch.int64)):
            got = fetch_external_ids(wanted, exchange, local)
            plain = IDS[id_type].dictionary_decode() if id_type == "dictionary" else IDS[id_type]
            assert got.type == plain.type
            got.validate(full=True)
            results.append(got.to_pylist())
    return results


def wish(rank: int, world_size: int) -> torch.Tensor:
    firsts = np.linspace(0, N, world_size + 1).astype(np.int64)[:-1]
    nodes = np.setdiff1d(np.arange(N), firsts)
    return torch.from_numpy(nodes if world_size == 1 else nodes[rank :: world_size + 1].copy())


@pytest.mark.parametrize("world_size", [1, 2])
def test_ids_of_every_type_come_back_exactly(world_size: int) -> None:
    kinds = list(IDS)
    shards = [fetch(0, 1, kinds)] if world_size == 1 else run_workers(world_size, fetch, world_size, kinds)
    for rank, results in enumerate(shards):
        chosen = wish(rank, world_size).tolist()
        assert len(chosen) > 5
        for id_type, got, none in zip(kinds, results[::2], results[1::2], strict=True):
            assert got == [IDS[id_type][node].as_py() for node in chosen], id_type
            assert none == []


def rank_lists(rank: int) -> tuple[list[object], list[list[int]]]:
    exchange = Exchange(dist.group.WORLD, np.asarray([0, 10, 20]), rank)
    own = np.arange(10 * rank, 10 * rank + 10)
    local = LocalIds(own, pa.array([f"item {node}" for node in own]))
    nodes = torch.tensor([[3, 17, -1], [17, 4, 3]]) if rank == 0 else torch.empty((0, 3), dtype=torch.int64)
    ranked = ranked_ids(nodes, exchange, local)
    return ranked.ids.to_pylist(), ranked.index.tolist()


def test_ranked_lists_name_each_id_once() -> None:
    first, second = run_workers(2, rank_lists)
    assert first == (["item 3", "item 4", "item 17"], [[0, 2, -1], [2, 1, 0]])
    assert second == ([], [])


def test_ids_of_nested_types_are_refused() -> None:
    exchange = Exchange(None, np.asarray([0, 2]), 0)
    with pytest.raises(InputError, match="ids of type list<"):
        fetch_external_ids(torch.tensor([0]), exchange, LocalIds(np.arange(2), pa.array([[1], [2]])))


def test_a_node_without_an_id_is_noticed() -> None:
    exchange = Exchange(None, np.asarray([0, 5]), 0)
    with pytest.raises(AssertionError, match="without an id"):
        fetch_external_ids(torch.tensor([1]), exchange, LocalIds(np.asarray([0, 2]), pa.array(["a", "b"])))
