"""Metrics of held-out interactions under exact full ranking, for the model and for popularity."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mmssl_dist.config.tree import Evaluation
from mmssl_dist.evaluation.metrics import metric_sums
from mmssl_dist.evaluation.ranking import Ranking, Seen, hits_of, top_k
from mmssl_dist.sharding.exchange import Exchange
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.sharding.topology import Adjacency

Metrics = dict[str, float]


def held_out_metrics(settings: Evaluation, graph: LocalGraph, rows: Tensor, exchange: Exchange,
                     splits: Sequence[str]) -> dict[str, Metrics]:  # fmt: skip
    """Metrics of the ranking by ``rows`` for each of ``splits`` (collective).

    Args:
        rows: [n, D] final rows of the local nodes.
        splits: among "validation" and "test"; training items are masked in both.

    Returns:
        split -> {"recall@20": mean over the split's users, ...}.
    """

    def rows_of(nodes: Tensor) -> Tensor:
        return rows.index_select(0, nodes.to(rows.device))

    return _metrics(settings, graph, rows_of, rows_of(graph.items), exchange, splits)


def popularity_metrics(settings: Evaluation, graph: LocalGraph, exchange: Exchange,
                       splits: Sequence[str]) -> dict[str, Metrics]:  # fmt: skip
    """The same for everybody: items ranked by their number of training interactions (collective)."""
    degree = graph.training.degrees(graph.items).to(torch.float32)[:, None]
    return _metrics(settings, graph, lambda users: torch.ones(len(users), 1), degree, exchange, splits)


def rank(settings: Evaluation, graph: LocalGraph, users: Tensor, user_rows: Tensor, item_rows: Tensor, k: int,
         exchange: Exchange) -> Ranking:  # fmt: skip
    """The k best unseen items for the local ``users`` (collective).

    Args:
        users: int64 [u] local rows. user_rows: [u, D]. item_rows: [m, D] of all local items, in node order.
    """
    seen = _select(graph.training, users)
    return top_k(user_rows, Seen(seen.indptr.to(user_rows.device), seen.neighbours.to(user_rows.device)), item_rows,
                 (graph.items + graph.first).to(item_rows.device), k, settings.user_block, settings.item_block,
                 exchange)  # fmt: skip


def _metrics(settings: Evaluation, graph: LocalGraph, rows_of: Callable[[Tensor], Tensor], item_rows: Tensor,
             exchange: Exchange, splits: Sequence[str]) -> dict[str, Metrics]:  # fmt: skip
    users = graph.users
    asked = torch.zeros(len(users), dtype=torch.bool)
    for split in splits:
        asked |= graph.held_out[split].degrees(users) > 0
    users = users[asked]
    ranking = rank(settings, graph, users, rows_of(users), item_rows, max(settings.ks), exchange)
    result = {}
    for split in splits:
        held_out = _select(graph.held_out[split], users)
        hits, positives = hits_of(ranking.nodes.cpu(), held_out.indptr, held_out.neighbours)
        result[split] = metric_sums(hits, positives, settings.ks).over_workers(exchange).means()
    return result


def _select(lists: Adjacency, rows: Tensor) -> Adjacency:
    """The lists of some rows, as lists of their own."""
    counts, edges = lists.edges(rows)
    indptr = torch.cat([counts.new_zeros(1), torch.cumsum(counts, 0)])
    return Adjacency(indptr, lists.neighbours[edges], lists.weight[edges])
