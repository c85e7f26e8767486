"""Cuts the graph into parts: even in users, in items and in the edges of both; all but the random one also
make few edges cross."""

from __future__ import annotations

import numpy as np

from mmssl_dist.graph.bipartite import Bipartite
from mmssl_dist.graph.metis import metis
from mmssl_dist.graph.partition_book import PartitionBook


def random_cut(users: int, items: int, parts: int, seed: int) -> np.ndarray:
    """[users + items] int64 part of each node, users first; parts differ by one user and one item at most."""
    generator = np.random.default_rng(seed)
    # Items are dealt on from where users ended, so no part stays empty while there are as many nodes as
    # parts.
    return np.concatenate([generator.permutation(users), users + generator.permutation(items)]) % parts


def metis_cut(graph: Bipartite, parts: int) -> np.ndarray:
    """[users + items] int64 part of each node, users first; a pure function of its arguments.

    Raises:
        MmsslError: METIS gave up.
    """
    if parts == 1:  # METIS wants two
        return np.zeros(graph.users + graph.items, np.int64)
    indptr = np.concatenate([graph.of_user.indptr, graph.interactions + graph.of_item.indptr[1:]])
    neighbours = np.concatenate([graph.of_user.values.astype(np.int64) + graph.users, graph.of_item.values])
    kind = (np.arange(graph.users + graph.items) >= graph.users).astype(np.int64)
    return metis(indptr, neighbours, kind, parts)


def crossing_fraction(graph: Bipartite, part: np.ndarray) -> float:
    """Fraction of the interactions whose user and item are in different parts."""
    of_user = np.repeat(part[: graph.users], graph.of_user.lengths)
    of_item = part[graph.users :][graph.of_user.values]
    return float(np.mean(of_user != of_item)) if graph.interactions else 0.0


def crossing_between_workers(graph: Bipartite, part: np.ndarray, book: PartitionBook) -> list[float]:
    """For W = 1..P workers, the fraction of the interactions whose user and item are held by different
    ones."""
    parts = book.parts
    pair = (
        np.repeat(part[: graph.users], graph.of_user.lengths) * parts
        + part[graph.users :][graph.of_user.values]
    )
    between = np.bincount(pair, minlength=parts * parts).reshape(parts, parts)
    fractions = []
    for workers in range(1, parts + 1):
        held = [book.worker_parts(rank, workers) for rank in range(workers)]
        within = sum(int(between[each.start : each.stop, each.start : each.stop].sum()) for each in held)
        fractions.append(1.0 - within / graph.interactions if graph.interactions else 0.0)
    return fractions


def unevenness(amounts: np.ndarray) -> float:
    """Largest over mean; 1 is even."""
    return float(amounts.max() / amounts.mean()) if amounts.sum() else 1.0
