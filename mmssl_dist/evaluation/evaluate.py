"""Metrics of held-out interactions under exact full ranking, for the model and for popularity; by user or as
means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmssl_dist.config.training_sections import Evaluation
from mmssl_dist.evaluation.metrics import sums_of, user_metrics
from mmssl_dist.evaluation.ranking import Ranking, Seen, hits_of, top_k
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.sampling.draws import Purpose, key, uniform
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.sharding.topology import Adjacency

Metrics = dict[str, float]
USERS_AT_ONCE = 1 << 12
_PLACES = 1 << 24  # finer than draws in (0, 1); workers compare them as integers


@dataclass(frozen=True)
class UserMetrics:
    """Metrics of this worker's users that have held-out items in one split.

    Attributes:
        rows: int64 [u] their local rows, ascending.
        positives: int64 [u] how many items are held out.
        values: float64 [u, len(metric_names(ks))].
    """

    rows: Tensor
    positives: Tensor
    values: Tensor


def held_out_users(
    settings: Evaluation,
    graph: LocalGraph,
    rows: Tensor,
    exchange: Exchange,
    splits: Sequence[str],
    item_rows: Tensor | None = None,
) -> dict[str, UserMetrics]:
    """Each local user's metrics of the ranking by ``rows``, by split (collective).

    Args:
        rows: [n, D] final rows of the local nodes.
        splits: among "validation" and "test"; training items are masked in both.
        item_rows: [m, D] of the local items, in place of those among ``rows``.
    """

    def rows_of(nodes: Tensor) -> Tensor:
        return rows.index_select(0, nodes.to(rows.device))

    if item_rows is None:
        item_rows = rows_of(graph.items)
    return _users(settings, graph, rows_of=rows_of, item_rows=item_rows, exchange=exchange, splits=splits)


def popularity_users(
    settings: Evaluation, graph: LocalGraph, exchange: Exchange, splits: Sequence[str]
) -> dict[str, UserMetrics]:
    """The same for everybody: items ranked by their number of training interactions (collective)."""
    # As rows of width 1, so that popularity goes through the same ranking, masks and ties as the model.
    degree = graph.training.degrees(graph.items).to(torch.float32)[:, None]
    return _users(
        settings,
        graph,
        rows_of=lambda users: torch.ones(len(users), 1),
        item_rows=degree,
        exchange=exchange,
        splits=splits,
    )


def means_of(
    settings: Evaluation, users_by_split: Mapping[str, UserMetrics], exchange: Exchange
) -> dict[str, Metrics]:
    """split -> {"recall@20": mean over the split's users of all workers, ...} (collective).

    Raises:
        InputError: no user has held-out items in a split.
    """
    return {
        s: sums_of(users.values, settings.ks).over_workers(exchange).means()
        for s, users in users_by_split.items()
    }


def held_out_metrics(
    settings: Evaluation, graph: LocalGraph, rows: Tensor, exchange: Exchange, splits: Sequence[str]
) -> dict[str, Metrics]:
    """The means of ``held_out_users`` (collective)."""
    return means_of(
        settings, held_out_users(settings, graph, rows=rows, exchange=exchange, splits=splits), exchange
    )


def rank_items(
    settings: Evaluation,
    graph: LocalGraph,
    users: Tensor,
    user_rows: Tensor,
    item_rows: Tensor,
    k: int,
    exchange: Exchange,
    items: Tensor | None = None,
    held_out: Sequence[str] = (),
) -> Ranking:
    """The k best items for the local ``users`` without those of their training (collective).

    Args:
        users: int64 [u] local rows. user_rows: [u, D].
        item_rows: [m, D] of the local items that are ranked, in node order.
        items: int64 [m] their local rows, ascending; None: all.
        held_out: splits whose items are left out too; none for metrics, which look for them in the lists.
    """
    items = graph.items if items is None else items
    seen = [select_lists(of, users) for of in (graph.training, *(graph.held_out[s] for s in held_out))]
    return top_k(
        user_rows,
        [Seen(of.indptr.to(user_rows.device), of.neighbours.to(user_rows.device)) for of in seen],
        items=item_rows,
        item_nodes=(items + graph.first).to(item_rows.device),
        k=k,
        user_block=settings.user_block,
        item_block=settings.item_block,
        exchange=exchange,
    )


def drawn_lists(
    settings: Evaluation, graph: LocalGraph, held_out: Mapping[str, Adjacency], exchange: Exchange
) -> tuple[Tensor, dict[str, Adjacency]]:
    """The local users to rank for, ascending rows, and the lists of ``held_out`` for them (collective).

    Each split draws from its own users, so that a small one beside a large one has users too. The list of
    a user that is drawn for another split alone is empty.
    """
    drawn = {s: ranked_users(settings, graph, lists, exchange) for s, lists in held_out.items()}
    users: Tensor = torch.unique(torch.cat(list(drawn.values())))
    return users, {s: _padded(select_lists(held_out[s], mine), mine, users) for s, mine in drawn.items()}


def ranked_users(settings: Evaluation, graph: LocalGraph, held_out: Adjacency, exchange: Exchange) -> Tensor:
    """The users to rank for (collective): those with an entry in the lists, or some of them, drawn at random,
    the same ones for any number of workers and in every run on the same partitions; at least one where any
    worker has one.

    Returns:
        int64, ascending local rows.
    """
    users = graph.users[held_out.degrees(graph.users) > 0]
    if settings.users == "all":
        return users
    everyone = int(exchange.sum(torch.tensor([len(users)])))
    # By node id and without the job's seed: runs that are compared rank for the same users.
    drawn = uniform(key(Purpose.RANKED_USERS), users + graph.first)
    # Each user on its own: about the wanted number is drawn, and no worker has to know the others' draws.
    chosen = drawn * everyone < settings.users
    if not int(exchange.sum(chosen.sum()[None])):
        # About one is at times none, and then there would be no mean.
        places = (drawn * _PLACES).long()
        chosen = places == -exchange.max(-int(places.min()) if len(places) else -_PLACES)
    return users[chosen]


def metrics_of(ranking: Ranking, users: Tensor, held_out: Adjacency, ks: Sequence[int]) -> UserMetrics:
    """Metrics of ranked lists.

    Args:
        users: int64 [u] local rows of the ranking's users.
        held_out: lists of these users, in the same order; those with an empty one are left out of the result.
    """
    positives, nodes = held_out.indptr.diff(), ranking.nodes.cpu()
    values = []
    for first in range(0, max(len(users), 1), USERS_AT_ONCE):  # a user's intermediate numbers are many
        indptr = held_out.indptr[first : first + USERS_AT_ONCE + 1]
        listed = held_out.neighbours[int(indptr[0]) : int(indptr[-1])]
        hits, held_out_counts = hits_of(nodes[first : first + USERS_AT_ONCE], indptr - indptr[0], listed)
        evaluated = held_out_counts > 0
        values.append(user_metrics(hits[evaluated], held_out_counts[evaluated], ks))
    counted = positives > 0
    return UserMetrics(users[counted], positives[counted], torch.cat(values))


def select_lists(lists: Adjacency, rows: Tensor) -> Adjacency:
    """The lists of some rows, as lists of their own."""
    counts, edges = lists.edges(rows)
    indptr = torch.cat([counts.new_zeros(1), torch.cumsum(counts, 0)])
    return Adjacency(indptr, lists.neighbours[edges], lists.weight[edges])


def _users(
    settings: Evaluation,
    graph: LocalGraph,
    rows_of: Callable[[Tensor], Tensor],
    item_rows: Tensor,
    exchange: Exchange,
    splits: Sequence[str],
) -> dict[str, UserMetrics]:
    # Ranked once for all splits: masks are the same, so the lists are too.
    users, held_out = drawn_lists(settings, graph, {s: graph.held_out[s] for s in splits}, exchange)
    ranking = rank_items(
        settings=settings,
        graph=graph,
        users=users,
        user_rows=rows_of(users),
        item_rows=item_rows,
        k=max(settings.ks),
        exchange=exchange,
    )
    return {s: metrics_of(ranking, users, lists, settings.ks) for s, lists in held_out.items()}


def _padded(lists: Adjacency, rows: Tensor, users: Tensor) -> Adjacency:
    """The lists of ``rows`` as lists of ``users``, which has them among others; both ascend."""
    counts = torch.zeros(len(users), dtype=torch.int64)
    counts[torch.searchsorted(users, rows)] = lists.indptr.diff()
    return Adjacency(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), lists.neighbours, lists.weight)
