"""A cut for graphs that METIS has no memory for: passes over the edges in batches, with a few numbers per
node.

Size-constrained label propagation finds clusters, which are dealt to the parts whole, heaviest first; then
nodes are dealt anew one batch after the other, each to the part that holds most of its neighbours and has
room (restreaming linear deterministic greedy: Stanton and Kliot, KDD 2012; Nishimura and Ugander, KDD 2013).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mmssl_dist.graph.bipartite import Bipartite, Lists

NODE_BYTES = 40  # of one node, beyond the graph and the temporaries of one batch
_BATCH_EDGES = 1 << 22  # looked at together; bounds memory
_BATCHES = 64  # at least so many per pass, since loads are brought up to date between batches
_CLUSTERING_ROUNDS = 4
_DEALING_ROUNDS = 8
_CLUSTERS_PER_PART = 16  # a cluster holds at most this fraction of a part's edges
_SLACK = 1.05  # a part takes at most this much over its even share


def streaming_cut(graph: Bipartite, parts: int, seed: int) -> np.ndarray:
    """[users + items] int64 part of each node, users first; a pure function of its arguments.

    Beyond the graph it holds ``NODE_BYTES`` per node, and temporaries of one batch of edges.
    """
    if parts == 1:
        return np.zeros(graph.users + graph.items, np.int64)
    cluster = _clusters(graph, graph.interactions // (parts * _CLUSTERS_PER_PART) + 1, seed)
    part = _deal_clusters(graph, cluster, parts)
    users, items = part[: graph.users], part[graph.users :]
    user_loads, item_loads = _Loads(users, graph.of_user, parts), _Loads(items, graph.of_item, parts)
    for _ in range(_DEALING_ROUNDS):
        _deal(graph.of_user, users, items, user_loads)
        _deal(graph.of_item, items, users, item_loads)
    return part


class _Loads:
    """What the parts hold of one kind of node, in nodes and in edges, and what they may."""

    def __init__(self, part: np.ndarray, lists: Lists, parts: int) -> None:
        self.nodes = np.bincount(part, minlength=parts).astype(np.float64)
        self.edges = np.bincount(part, lists.lengths, minlength=parts)
        self.node_limit = _SLACK * self.nodes.sum() / parts
        self.edge_limit = _SLACK * max(self.edges.sum() / parts, float(lists.lengths.max(initial=0)))

    def move(self, part: np.ndarray, lengths: np.ndarray, sign: int) -> None:
        self.nodes += sign * np.bincount(part, minlength=len(self.nodes))
        self.edges += sign * np.bincount(part, lengths, minlength=len(self.nodes))

    @property
    def room(self) -> np.ndarray:
        """[P] share of each part that is free; 0 when it is full."""
        used = np.maximum(self.nodes / max(self.node_limit, 1.0), self.edges / max(self.edge_limit, 1.0))
        return np.asarray(np.maximum(1.0 - used, 0.0))


def _deal(lists: Lists, part: np.ndarray, others: np.ndarray, loads: _Loads) -> None:
    """Give each row the part that holds most of its neighbours, weighted by the room there; in place."""
    parts = len(loads.nodes)
    for first, last in _batches(lists):
        lengths = lists.lengths[first:last]
        loads.move(part[first:last], lengths, -1)
        row = np.repeat(np.arange(last - first), lengths)
        values = lists.values[lists.indptr[first] : lists.indptr[last]]
        held = np.bincount(row * parts + others[values], minlength=(last - first) * parts).reshape(-1, parts)
        room = loads.room
        score = (held + 1e-3) * room  # rows without neighbours in a part with room go where most room is
        chosen = score.argmax(1)
        part[first:last] = _within(chosen, score, lengths, loads)
        loads.move(part[first:last], lengths, 1)


def _within(chosen: np.ndarray, score: np.ndarray, lengths: np.ndarray, loads: _Loads) -> np.ndarray:
    """``chosen``, but what would fill a part beyond its limits goes to its next best ones; those that want it
    least go first."""
    for _ in range(len(loads.nodes)):
        order = np.lexsort((-score[np.arange(len(chosen)), chosen], chosen))
        by_part = chosen[order]
        starts = np.searchsorted(by_part, np.arange(len(loads.nodes)))
        nodes = np.arange(1, len(chosen) + 1) - starts[by_part]
        edges = np.cumsum(lengths[order])
        edges = edges - np.concatenate([[0], edges])[starts][by_part]
        over = (loads.nodes[by_part] + nodes > loads.node_limit) | (
            loads.edges[by_part] + edges > loads.edge_limit
        )
        moved = order[over]
        if not len(moved):
            break
        score[moved, chosen[moved]] = -1.0
        chosen[moved] = score[moved].argmax(1)
    nodes = loads.nodes + np.bincount(chosen, minlength=len(loads.nodes))
    for row in np.flatnonzero(score.max(1) < 0):  # one part is full of nodes, another of edges: nodes decide
        nodes[chosen[row]] -= 1
        chosen[row] = nodes.argmin()
        nodes[chosen[row]] += 1
    return chosen


def _clusters(graph: Bipartite, limit: int, seed: int) -> np.ndarray:
    """[users + items] a cluster's number per node; clusters hold at most about ``limit`` edges of their
    users."""
    items = np.random.default_rng(seed).permutation(
        graph.items
    )  # numbers say nothing, and ties go to the lower one
    users = np.zeros(graph.users, np.int64)
    # an item that everybody knows tells little about anybody
    weight = 1.0 / np.sqrt(np.maximum(graph.of_item.lengths, 1))
    for _ in range(_CLUSTERING_ROUNDS):
        size = np.zeros(graph.items, np.int64)
        _adopt(graph.of_user, users, items, weight, size, limit)
        _adopt(graph.of_item, items, users, np.ones(graph.users), None, limit)
    return np.concatenate([users, items])


def _adopt(
    lists: Lists,
    labels: np.ndarray,
    others: np.ndarray,
    weight: np.ndarray,
    size: np.ndarray | None,
    limit: int,
) -> None:
    """Each row takes the label with most weight among its neighbours, where that has room; in place.

    Args:
        size: edges per label, brought up to date; None sets no limit.
    """
    for first, last in _batches(lists):
        lengths = lists.lengths[first:last]
        row = np.repeat(np.arange(last - first), lengths)
        values = lists.values[lists.indptr[first] : lists.indptr[last]]
        label = others[values]
        if size is not None:
            open_ = size[label] < limit
            row, values, label = row[open_], values[open_], label[open_]
        if not len(row):
            continue
        order = np.lexsort((label, row))
        row, label, share = row[order], label[order], weight[values[order]]
        starts = np.flatnonzero(np.concatenate([[True], (row[1:] != row[:-1]) | (label[1:] != label[:-1])]))
        total = np.add.reduceat(share, starts)
        row, label = row[starts], label[starts]
        best = np.lexsort((-total, row))  # the first of each row has the largest total
        best = best[np.concatenate([[True], row[best][1:] != row[best][:-1]])]
        labels[first + row[best]] = label[best]
        if size is not None:
            size += np.bincount(label[best], lengths[row[best]], minlength=len(size)).astype(np.int64)


def _deal_clusters(graph: Bipartite, cluster: np.ndarray, parts: int) -> np.ndarray:
    """[users + items] a part per node: clusters whole, heaviest first, to the part with most room."""
    lengths = graph.degrees
    numbers, member = np.unique(cluster, return_inverse=True)
    weight = np.bincount(member, lengths, minlength=len(numbers))
    part = np.zeros(len(numbers), np.int64)
    load = np.zeros(parts)
    for number in np.argsort(-weight, kind="stable"):
        part[number] = load.argmin()
        load[part[number]] += weight[number] + 1e-9
    return part[member]


def _batches(lists: Lists) -> Iterator[tuple[int, int]]:
    """Ranges of rows with about equally many edges."""
    rows, edges = len(lists.indptr) - 1, int(lists.indptr[-1])
    step = min(_BATCH_EDGES, max(1, edges // _BATCHES))
    cuts = np.searchsorted(lists.indptr, np.arange(step, edges, step))
    ends = np.unique(np.concatenate([[0], cuts, [rows]]))
    yield from zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
