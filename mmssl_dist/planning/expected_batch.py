"""How much one step samples: expected numbers of distinct nodes and of edges, from degrees alone.

A drawn edge ends at a node with probability proportional to its degree, so of the nodes of one degree class
the share 1 - exp(-expected draws per node) is visited at least once. That holds hop after hop, since draws
add up. A worker's own nodes and those of the others are counted separately; the cut determines how many draws
cross.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmssl_dist.config.job import Job
from mmssl_dist.planning.sizes import Degrees, Sizes


@dataclass(frozen=True, kw_only=True)
class ExpectedBatch:
    """One worker's part of a step.

    Attributes:
        pairs: training pairs.
        users: distinct users among them.
        candidates: distinct candidates of the whole batch.
        seeds, away_seeds: nodes of S_0, and those of them that other workers own.
        outer: nodes of S_L.
        rows, away_rows: nodes whose ID rows are fetched, and those of them that other workers own.
        edges: sampled, of all layers and views.
        similar: items whose item-item lists are used.
        asked: nodes of other workers requested, over all routes.
        away_edges: edges that other workers send.
    """

    pairs: float
    users: float
    candidates: float
    seeds: float
    away_seeds: float
    outer: float
    rows: float
    away_rows: float
    edges: float
    similar: float
    asked: float
    away_edges: float


class _ExpectedVisits:
    """Expected draws per node of each class, of the worker's own nodes and of the others'."""

    def __init__(self, degrees: Degrees, workers: int) -> None:
        self.degree = degrees.degree
        # Degrees are assumed to be the same in every part, as the balance of the cut makes them roughly.
        share = np.array([1.0 / workers, 1.0 - 1.0 / workers])
        self.nodes = share[:, None] * degrees.nodes  # [2, B]: own, away
        self.draws = np.zeros_like(self.nodes)
        self._count = self.nodes.sum(1)

    def by_degree(self, own: float, away: float, exponent: float = 1.0) -> None:
        """Add draws that fall on own and other nodes in proportion to degree to the power of ``exponent``."""
        shares = np.where(self.degree > 0, self.degree, 0.0) ** exponent * (self.degree > 0)
        for side, draws in enumerate((own, away)):
            if (total := self.nodes[side] @ shares) > 0:
                self.draws[side] += draws * shares / total

    def evenly(self, own: float, away: float) -> None:
        """Add draws that fall on every node equally often."""
        for side, draws in enumerate((own, away)):
            if self._count[side] > 0:
                self.draws[side] += draws / self._count[side]

    @property
    def distinct(self) -> np.ndarray:
        """[2] nodes visited at least once: own, away."""
        return np.asarray((self.nodes * self.visited).sum(1))

    @property
    def visited(self) -> np.ndarray:
        """[2, B] share of each class that is visited at least once."""
        # Poisson: the chance of at least one of many rare draws; ``expm1`` keeps it exact where it is tiny.
        return np.asarray(-np.expm1(-self.draws))

    def edges(self, fanout: float) -> np.ndarray:
        """[2] edges drawn for the nodes visited: own, away."""
        return np.asarray((self.nodes * self.visited * np.minimum(self.degree, fanout)).sum(1))


def expected_batch(job: Job, sizes: Sizes, workers: int) -> ExpectedBatch:
    """What each of ``workers`` samples in a step on average."""
    cut = sizes.cut_between(workers)
    pairs = min(job.training.batch_size, sizes.interactions) / workers
    users, items = _ExpectedVisits(sizes.users, workers), _ExpectedVisits(sizes.items, workers)
    candidates = _visit_seeds(job, sizes, workers=workers, pairs=pairs, cut=cut, users=users, items=items)
    batch_users = float(users.distinct.sum())
    seeds, away_seeds = _total(users, items)
    fanouts = [np.inf] * job.model.layers if job.training.fanout == "all" else list(job.training.fanout)
    edges = away_edges = asked = similar = 0.0
    asked += away_seeds
    first = (0.0, 0.0)
    seed_items = items.distinct.copy()
    for hop, fanout in enumerate(fanouts):
        of_users, of_items = users.edges(fanout), items.edges(fanout)
        if hop == 0:
            first = _edge_ends(of_users, cut, workers)
        items.by_degree(*_edge_ends(of_users, cut, workers))
        users.by_degree(*_edge_ends(of_items, cut, workers))
        edges += float(of_users.sum() + of_items.sum())
        away_edges += float(of_users[1] + of_items[1])
        asked += _total(users, items)[1]
    outer, _ = _total(users, items)
    if job.model.item_graph.weight > 0:
        similar, drawn, drawn_away = _visit_similar(
            job, sizes, workers=workers, first=first, seed_items=seed_items, items=items
        )
        edges, away_edges, asked = edges + drawn, away_edges + drawn_away, asked + _total(users, items)[1]
    if job.model.modality_graph.size:
        drawn, drawn_away = _visit_views(job, sizes, workers=workers, users=users, items=items)
        edges, away_edges, asked = edges + drawn, away_edges + drawn_away, asked + _total(users, items)[1]
    rows, away_rows = _total(users, items)
    return ExpectedBatch(
        pairs=pairs,
        users=batch_users,
        candidates=candidates,
        seeds=seeds,
        away_seeds=away_seeds,
        outer=outer,
        rows=rows,
        away_rows=away_rows,
        edges=edges,
        similar=similar,
        asked=asked,
        away_edges=away_edges,
    )


def _visit_seeds(
    job: Job,
    sizes: Sizes,
    *,
    workers: int,
    pairs: float,
    cut: float,
    users: _ExpectedVisits,
    items: _ExpectedVisits,
) -> float:
    """Visit the seeds; returns the number of distinct candidates of the whole batch."""
    users.by_degree(pairs, 0.0, job.training.user_exponent)
    items.by_degree(pairs * (1 - cut), pairs * cut)
    items.evenly(pairs / workers, pairs * (1 - 1 / workers))  # negatives
    requested = job.losses.candidates
    if not (job.losses.use_candidates or job.model.modality_graph.size):
        return 0.0
    if requested == "all":
        # Every own item is visited for certain.
        items.draws[0] = np.inf
        return float(sizes.num_items)
    # half are drawn from the batch's positives, some twice, and are already among one worker's seeds
    known = workers * pairs * -np.expm1(-requested / 2 / (workers * pairs))
    everyone = _ExpectedVisits(sizes.items, 1)
    everyone.by_degree(known, 0.0)
    everyone.evenly(requested / 2, 0.0)
    items.by_degree(known / workers * cut, 0.0)
    items.evenly(requested / 2 / workers, 0.0)
    return float(everyone.distinct.sum())


def _edge_ends(edges: np.ndarray, cut: float, workers: int) -> tuple[float, float]:
    """Where edges drawn for own and other nodes end: at own nodes, at others'."""
    own, away = float(edges[0]), float(edges[1])
    # Of edges of others' nodes that cross, one in W - 1 leads here.
    back = away * cut / (workers - 1) if workers > 1 else 0.0
    return own * (1 - cut) + back, own * cut + away - back


def _visit_similar(
    job: Job,
    sizes: Sizes,
    *,
    workers: int,
    first: tuple[float, float],
    seed_items: np.ndarray,
    items: _ExpectedVisits,
) -> tuple[float, float, float]:
    """Visit the item-item lists of the seeds and of their users' drawn items.

    Returns:
        lists used, edges, edges that others send.
    """
    around = _ExpectedVisits(sizes.items, workers)
    around.by_degree(*first)
    spread = around.distinct
    lists = np.minimum(
        around.nodes.sum(1), spread + seed_items * (1 - spread / np.maximum(around.nodes.sum(1), 1))
    )
    kept = job.partition.item_neighbours
    fanout = kept if job.model.item_graph.fanout == "all" else min(kept, job.model.item_graph.fanout)
    per_item = min(fanout, sizes.num_items - 1) * len(sizes.modalities)
    drawn = float(lists.sum()) * per_item
    items.evenly(drawn / workers, drawn * (1 - 1 / workers))
    return float(lists.sum()), drawn, float(lists[1]) * per_item


def _visit_views(
    job: Job, sizes: Sizes, *, workers: int, users: _ExpectedVisits, items: _ExpectedVisits
) -> tuple[float, float]:
    """Visit the learned lists of the outermost nodes; returns their edges, and those that others send."""
    graph, modalities = job.model.modality_graph, len(sizes.modalities)
    fanout = np.inf if job.training.fanout == "all" else graph.fanout
    of_users = users.distinct * min(graph.size, fanout) * modalities
    of_items = items.distinct * min(graph.size * sizes.num_users / sizes.num_items, fanout) * modalities
    items.evenly(of_users.sum() / workers, of_users.sum() * (1 - 1 / workers))
    users.evenly(of_items.sum() / workers, of_items.sum() * (1 - 1 / workers))
    return float(of_users.sum() + of_items.sum()), float(of_users[1] + of_items[1])


def _total(users: _ExpectedVisits, items: _ExpectedVisits) -> tuple[float, float]:
    """Distinct nodes visited, and those of them that others own."""
    own, away = users.distinct + items.distinct
    return float(own + away), float(away)
