"""Cuts the graph into parts: even in users, in items and in the edges of both; all but the random one also
make few edges cross. A cut is the same however many workers make it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np

from mmssl_dist.config.job import Job
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.graph.bipartite import Bipartite, Lists, bipartite
from mmssl_dist.graph.homes import Homes, interactions_of, lists_at_home
from mmssl_dist.graph.metis import metis
from mmssl_dist.graph.streaming import streaming_cut
from mmssl_dist.graph.transfer import gather, gather_on_first, id_type, scatter_from_first, send_to_owners
from mmssl_dist.kernels.splitmix import mix, salt

_HASH_BITS = 31
_POLL_SECONDS = 2.0  # so late may the other workers see that METIS is done


def cut_graph(homes: Homes, of_item: Lists, job: Job, method: str) -> tuple[np.ndarray, np.ndarray]:
    """The part of each user and of each item at home here (collective).

    Args:
        of_item: the users of each item at home here. method: "metis", "streaming" or "random".

    Raises:
        MmsslError: METIS gave up.
    """
    parts = job.partition.parts
    if method == "random":
        return random_cut(homes, parts, job.seed)
    users, items = int(homes.users.bounds[-1]), int(homes.items.bounds[-1])
    if method == "streaming":
        user, item = interactions_of(homes, of_item)
        return streaming_cut(
            homes=homes,
            of_user=lists_at_home(homes.users, items, user, item),
            of_item=of_item,
            parts=parts,
            seed=job.seed,
        )
    user = gather_on_first(homes.items, of_item.values)
    lengths = gather_on_first(homes.items, of_item.lengths)
    part = np.empty(0, np.int64)
    # In a thread, so that the first worker can keep answering the collectives below while METIS runs.
    with ThreadPoolExecutor(1) as pool:
        running = None
        if homes.items.rank == 0:
            item = np.repeat(np.arange(items, dtype=id_type(items)), lengths)
            running = pool.submit(metis_cut, bipartite(user, item, (users, items)), parts)
        # METIS may take longer than a collective may: the others wait in short ones
        while homes.items.max(running is not None and not running.done()):
            wait([running] if running else [], _POLL_SECONDS)
        if running is not None:
            part = running.result()
    return (
        scatter_from_first(homes.users, part[:users]),
        scatter_from_first(homes.items, part[users:]),
    )


def random_cut(homes: Homes, parts: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The part of each user and item at home here, by a hash of its index; parts differ by one user and one
    item at most (collective)."""
    # Items are dealt on from where users ended, so that no part stays empty if there are enough nodes.
    return (
        _by_hash(homes.users, seed, 7, 0) % parts,
        _by_hash(homes.items, seed, 8, int(homes.users.bounds[-1])) % parts,
    )


def metis_cut(graph: Bipartite, parts: int) -> np.ndarray:
    """[users + items] int64 part of each node, users first; a pure function of its arguments.

    Raises:
        MmsslError: METIS gave up.
    """
    if parts == 1:  # METIS wants two
        return np.zeros(graph.users + graph.items, np.int64)
    # One symmetric graph, as METIS wants: users are nodes 0 to U - 1, and items follow them.
    indptr = np.concatenate([graph.of_user.indptr, graph.interactions + graph.of_item.indptr[1:]])
    neighbours = np.concatenate([graph.of_user.values.astype(np.int64) + graph.users, graph.of_item.values])
    # METIS balances each node type on its own, hence users and items separately.
    node_type = (np.arange(graph.users + graph.items) >= graph.users).astype(np.int64)
    return metis(indptr, neighbours, node_type, parts)


def _by_hash(side: Exchange, seed: int, purpose: int, start: int) -> np.ndarray:
    """``start`` and up: the position of each index at home here when all are sorted by a hash."""
    index = np.arange(side.first, side.first + side.rows)
    hashed = mix(index.astype(np.uint64) ^ salt(seed, purpose))
    shares = np.arange(side.world_size + 1, dtype=np.int64) * 2**_HASH_BITS // side.world_size
    # A distributed sort: each worker ranks the hashes of one range, and ranges are about equally full.
    by_hash = Exchange(side.group, shares, side.rank)
    range_ = (hashed >> np.uint64(64 - _HASH_BITS)).astype(np.int64)
    _, hashed_here, index_here = send_to_owners(by_hash, range_, hashed.view(np.int64), index)
    order = np.argsort(hashed_here.view(np.uint64))
    # Nodes in lower ranges come first, so their number is where this worker's positions begin.
    before = int(gather(by_hash, np.array([len(order)]))[: by_hash.rank].sum())
    position = np.empty(len(order), np.int64)
    position[order] = start + before + np.arange(len(order))
    index_here, position = send_to_owners(side, index_here, position)
    result = np.empty(side.rows, np.int64)
    result[index_here - side.first] = position
    return result
