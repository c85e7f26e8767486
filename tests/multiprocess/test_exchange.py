"""The exchange between two and three workers, against the whole tables that only the test has."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from mmssl_dist.exchange import expected_counts, transport
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.sharding.lists import NO_ITEM, ModalityLists
from mmssl_dist.sharding.topology import adjacency_from_pairs
from tests.processes import run_workers

BOUNDS = {
    2: ([0, 7, 12], [0, 0, 9], [0, 5, 5]),  # also a worker that owns nothing
    3: ([0, 4, 9, 15], [0, 6, 6, 11], [0, 0, 0, 8]),
}


class Case:
    """One worker's view of a random round. Every rank draws the same numbers, hence knows what all of them
    ask for."""

    def __init__(
        self, bounds: list[int], rank: int, seed: int, group: dist.ProcessGroup | None = None
    ) -> None:
        self.rng, self.rank, self.workers = np.random.default_rng(seed), rank, len(bounds) - 1
        self.bounds, self.nodes = bounds, bounds[-1]
        self.exchange = Exchange(group or dist.group.WORLD, np.array(bounds), rank)
        self.asks = [np.sort(self.rng.choice(self.nodes, size, replace=False)) for size in self._sizes()]
        self.ids = torch.from_numpy(self.asks[rank])
        self.mine = slice(bounds[rank], bounds[rank + 1])

    def _sizes(self) -> list[int]:
        """How much each worker asks for: at times nothing, at times everything."""
        some = self.rng.integers(0, self.nodes + 1, self.workers)
        return [int(self.rng.choice([0, size, self.nodes])) for size in some]

    def table(self, width: int) -> Tensor:
        return torch.from_numpy(self.rng.normal(size=(self.nodes, width)).astype(np.float32))


def check_fetch(case: Case) -> None:
    """Rows arrive in the order of the ids; gradients are summed over those who asked."""
    table, factors = case.table(3), [case.table(3) for _ in range(case.workers)]
    own = table[case.mine].clone().requires_grad_()
    route = case.exchange.route(case.ids)
    asked = np.concatenate(
        [of_rank[(of_rank >= case.mine.start) & (of_rank < case.mine.stop)] for of_rank in case.asks]
    )
    assert route.requested.tolist() == (asked - case.mine.start).tolist()
    assert sum(route.received_counts) == len(case.ids)
    fetched = case.exchange.fetch(route, own.index_select(0, route.requested))
    assert torch.equal(fetched, table[case.ids])
    (fetched * factors[case.rank][case.ids]).sum().backward()
    wanted = torch.zeros_like(table)
    for ids, factor in zip(case.asks, factors, strict=True):
        wanted[ids] += factor[ids]
    torch.testing.assert_close(own.grad, wanted[case.mine], atol=1e-5, rtol=1e-5)
    numbers = torch.arange(case.mine.start, case.mine.stop)
    assert torch.equal(case.exchange.fetch(route, numbers.index_select(0, route.requested)), case.ids)


def check_together(case: Case) -> None:
    """Tensors of different widths and routes share a message, forwards and backwards; a part of a route and
    an announced number are known to both ends."""
    table, factor = case.table(3), case.table(3)
    own = table[case.mine].clone().requires_grad_()
    route = case.exchange.route(case.ids, announce=10 * case.rank)
    assert route.announced == tuple(10 * rank for rank in range(case.workers))
    requested = route.requested + case.exchange.first
    even = case.exchange.subroute(route, case.ids % 2 == 0, requested % 2 == 0)
    rows = own.index_select(0, route.requested)
    some = torch.stack([own.index_select(0, even.requested)] * 2, 1)
    whole, part = case.exchange.send_together(
        [
            (rows, route.requested_counts, route.received_counts),
            (some, even.requested_counts, even.received_counts),
        ]
    )
    chosen = case.ids[case.ids % 2 == 0]
    assert torch.equal(whole, table[case.ids])
    assert torch.equal(part, torch.stack([table[chosen]] * 2, 1))
    ((whole * factor[case.ids]).sum() + (part * factor[chosen, None]).sum()).backward()
    wanted = torch.zeros_like(table)
    for ids in case.asks:
        wanted[ids] += factor[ids]
        wanted[ids[ids % 2 == 0]] += 2 * factor[ids[ids % 2 == 0]]
    torch.testing.assert_close(own.grad, wanted[case.mine], atol=1e-5, rtol=1e-5)


def check_series(case: Case) -> None:
    """Routes of a series are those of two messages, whether their ids have room, have none or have some."""
    for number in range(5):
        for series in ("one", "other"):
            some = torch.from_numpy(case.rng.random(case.nodes) < case.rng.random())
            ids = some.nonzero().flatten()[case.rank % 2 :]
            apart = case.exchange.route(ids, announce=number + case.rank)
            together = case.exchange.route(ids, announce=number + case.rank, series=series)
            assert torch.equal(together.requested, apart.requested)
            assert together.requested_counts == apart.requested_counts
            assert together.received_counts == apart.received_counts
            assert together.announced == apart.announced


def check_ragged(case: Case) -> None:
    """Row n holds n, n, ... and n + 0.5, ...: as many as its length says."""
    lengths = torch.from_numpy(case.rng.integers(0, 4, case.nodes))
    route = case.exchange.route(case.ids)
    nodes = route.requested + case.exchange.first
    counts = lengths[nodes]
    entries = torch.repeat_interleave(nodes, counts)
    received, (first, second) = case.exchange.fetch_ragged(
        route, counts, [entries, entries.float()[:, None] + 0.5]
    )
    assert torch.equal(received, lengths[case.ids])
    assert torch.equal(first, torch.repeat_interleave(case.ids, received))
    assert torch.equal(second[:, 0], first.float() + 0.5)


def check_gather(case: Case) -> None:
    """All rows everywhere, and each row's gradients from everywhere summed at home."""
    counts = [int(size) for size in case.rng.integers(0, 4, case.workers)]
    case.nodes = sum(counts)
    whole, factors = case.table(2), [case.table(2) for _ in range(case.workers)]
    ends = np.cumsum([0, *counts])
    mine = slice(ends[case.rank], ends[case.rank + 1])
    own = whole[mine].clone().requires_grad_()
    assert case.exchange.gather_counts(counts[case.rank]) == tuple(counts)
    gathered = case.exchange.gather_rows(own, counts)
    assert torch.equal(gathered, whole)
    (gathered * factors[case.rank]).sum().backward()
    torch.testing.assert_close(own.grad, torch.stack(factors).sum(0)[mine])
    twice, numbers = case.exchange.gather_together(
        [(torch.stack([own, own], 1), counts), (own[:, 0], counts)]
    )
    assert torch.equal(twice, torch.stack([whole, whole], 1))
    assert torch.equal(numbers, whole[:, 0])
    own.grad = None
    ((twice[:, 1] * factors[case.rank]).sum() + (numbers * factors[case.rank][:, 1]).sum()).backward()
    total = torch.stack(factors).sum(0)[mine]
    torch.testing.assert_close(own.grad, torch.stack([total.sum(1), total[:, 1]], 1))


def check_reductions(case: Case) -> None:
    values = torch.arange(3.0) + case.rank
    values.requires_grad_()
    total = case.exchange.sum(values)
    assert total.tolist() == (torch.arange(3.0) * case.workers + sum(range(case.workers))).tolist()
    assert not total.requires_grad
    assert values.tolist() == [case.rank, case.rank + 1, case.rank + 2]
    assert case.exchange.max(10 - case.rank) == 10
    outgoing = [10 * case.rank + to for to in range(case.workers)]
    assert case.exchange.swap_counts(outgoing) == tuple(
        10 * source + case.rank for source in range(case.workers)
    )


def check_lists(case: Case) -> None:
    """Every node may list any other one here; the graph holds each pair at both ends."""
    size = 3
    published = np.full((case.nodes, size), NO_ITEM)
    for row in published:
        chosen = case.rng.choice(
            case.nodes, min(int(case.rng.integers(0, size + 1)), case.nodes), replace=False
        )
        row[: len(chosen)] = chosen
    lists = ModalityLists(case.exchange.rows, size)
    lists.items = torch.from_numpy(published[case.mine])
    lists.publish()
    graph = lists.graph(case.exchange)
    row, slot = np.nonzero(published != NO_ITEM)
    pairs = np.concatenate(
        [np.stack([row, published[row, slot]], 1), np.stack([published[row, slot], row], 1)]
    )
    own = torch.from_numpy(pairs[(pairs[:, 0] >= case.mine.start) & (pairs[:, 0] < case.mine.stop)])
    wanted = adjacency_from_pairs(own[:, 0] - case.mine.start, own[:, 1], case.exchange.rows)
    assert torch.equal(graph.indptr, wanted.indptr)
    assert torch.equal(graph.neighbours, wanted.neighbours)
    assert torch.equal(graph.weight, wanted.weight)


CHECKS: list[Callable[[Case], None]] = [
    check_fetch,
    check_together,
    check_series,
    check_ragged,
    check_gather,
    check_reductions,
    check_lists,
]


def check_all(rank: int, workers: int) -> int:
    done = 0
    for bounds in BOUNDS[workers]:
        for seed in range(12):
            for check in CHECKS:
                check(Case(bounds, rank, seed))
                done += 1
    check_two_groups_at_once(rank, workers)
    return done


def check_two_groups_at_once(rank: int, workers: int) -> None:
    """As in training: one thread samples over a group of its own, while another exchanges rows. The two start
    in another order on each rank."""
    groups = [dist.new_group(backend="gloo", timeout=timedelta(seconds=30)) for _ in range(2)]
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for seed in range(60):
                check_fetch(Case(BOUNDS[workers][0], rank, 100 * number + seed, groups[number]))
                check_ragged(Case(BOUNDS[workers][0], rank, 100 * number + seed, groups[number]))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads if rank % 2 else threads[::-1]:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures:
        raise failure


def check_exact_counts(rank: int, workers: int) -> int:
    """No spare room for ids, so that many need a second message; and messages between two ends in slices."""
    expected_counts._SPARE, expected_counts._STEP = 1.0, 1
    for seed in range(20):
        transport._MESSAGE_BYTES = 20 if seed % 2 else 64_000_000
        check_series(Case(BOUNDS[workers][0], rank, seed))
    return seed


@pytest.mark.parametrize("workers", [2, 3])
def test_more_ids_than_expected(workers):
    assert run_workers(workers, check_exact_counts, workers) == [19] * workers


def check_slices(rank: int, workers: int) -> int:
    """Messages of at most 100 bytes: some pairs of workers send more, others less, and none knows of the
    others'."""
    transport._MESSAGE_BYTES = 100
    for seed in range(20):
        rng = np.random.default_rng(seed)
        counts = rng.choice([0, 3, 12, 13, 60], (workers, workers))  # 12 rows of 8 bytes fit, 13 do not
        ends = np.concatenate([np.zeros((workers, 1), np.int64), counts.cumsum(1)], 1)
        exchange = Exchange(dist.group.WORLD, np.arange(workers + 1), rank)
        outgoing, incoming = counts[rank].tolist(), counts[:, rank].tolist()
        rows = torch.stack([torch.full((sum(outgoing),), rank), torch.arange(sum(outgoing))], 1).int()
        received = exchange.all_to_all(rows, outgoing, incoming)
        wanted = [
            (source, row)
            for source in range(workers)
            for row in range(ends[source, rank], ends[source, rank + 1])
        ]
        assert received.tolist() == [list(pair) for pair in wanted]
        assert exchange.traffic.bytes_sent == 8 * (sum(outgoing) - outgoing[rank])
        wide = exchange.all_to_all(torch.full((workers, 200), float(rank)), [1] * workers, [1] * workers)
        assert wide[:, 0].tolist() == list(range(workers))  # a row that is larger than a message goes alone
    return seed


@pytest.mark.parametrize("workers", [2, 3])
def test_large_messages_go_in_slices(workers):
    assert run_workers(workers, check_slices, workers) == [19] * workers


@pytest.mark.parametrize("workers", [2, 3])
def test_exchange(workers):
    assert all(list(bounds) == sorted(bounds) for bounds in BOUNDS[workers])
    assert any(a == b for bounds in BOUNDS[workers] for a, b in pairwise(bounds))
    assert run_workers(workers, check_all, workers, timeout=180) == [252] * workers
