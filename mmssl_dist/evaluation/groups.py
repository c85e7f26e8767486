"""Cold and warm items separately: how well held-out items without and with training interactions are ranked.

A cold item is one without training interactions: nothing but its modalities can place it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmssl_dist.config.training_sections import Evaluation
from mmssl_dist.evaluation.evaluate import Metrics, drawn_lists, means_of, metrics_of, rank_items
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.sharding.topology import Adjacency

COLD, WARM = GROUPS = ("cold", "warm")


def group_metrics(
    settings: Evaluation, graph: LocalGraph, rows: Tensor, exchange: Exchange, splits: Sequence[str]
) -> dict[str, dict[str, Metrics]]:
    """Metrics of cold and of warm items (collective).

    Only the group's items are ranked, without the training items of each user, and only the group's held-out
    items count, over the users that have some.

    Args:
        rows: [n, D] final rows of the local nodes.
        splits: among "validation" and "test".

    Returns:
        "cold" and "warm" -> split -> metrics, and the number of "users" counted and "items" ranked. A split
        in which no user has a cold held-out item is left out of both, a group without splits too.
    """
    cold_rows = graph.training.degrees(torch.arange(graph.num_rows)) == 0
    lists = {split: _by_group(graph.held_out[split], cold_rows, rows.device, exchange) for split in splits}
    # Without cold held-out items the warm group would repeat the metrics of all items.
    with_cold_items = [split for split in splits if exchange.max(len(lists[split][COLD].neighbours))]
    metrics: dict[str, dict[str, Metrics]] = {}
    for group in GROUPS if with_cold_items else ():
        chosen = graph.items[cold_rows[graph.items] == (group == COLD)]
        held_out = {
            s: lists[s][group] for s in with_cold_items if exchange.max(len(lists[s][group].neighbours))
        }
        if held_out:
            metrics[group] = _metrics(
                settings=settings, graph=graph, rows=rows, items=chosen, held_out=held_out, exchange=exchange
            )
    return metrics


def _metrics(
    settings: Evaluation,
    graph: LocalGraph,
    rows: Tensor,
    items: Tensor,
    held_out: Mapping[str, Adjacency],
    exchange: Exchange,
) -> dict[str, Metrics]:
    """Metrics of the ranking of ``items`` (local rows), with the users and items counted."""
    users, held_out = drawn_lists(settings, graph, held_out, exchange)
    user_rows, item_rows = (rows.index_select(0, nodes.to(rows.device)) for nodes in (users, items))
    ranking = rank_items(
        settings=settings,
        graph=graph,
        users=users,
        user_rows=user_rows,
        item_rows=item_rows,
        k=max(settings.ks),
        exchange=exchange,
        items=items,
    )
    by_split = {s: metrics_of(ranking, users, lists, settings.ks) for s, lists in held_out.items()}
    means = means_of(settings, by_split, exchange)
    counts = {s: exchange.sum(torch.tensor([len(by_split[s].rows), len(items)])).tolist() for s in by_split}
    return {s: {**means[s], "users": counts[s][0], "items": counts[s][1]} for s in by_split}


def _by_group(
    held_out: Adjacency, cold_rows: Tensor, device: torch.device, exchange: Exchange
) -> dict[str, Adjacency]:
    """The lists of the local nodes, split into cold and warm items; the owners of the items know which are
    which."""
    # Popular items are held out for many users; their owners are asked once for each item.
    nodes, inverse = torch.unique(held_out.neighbours, return_inverse=True)
    route = exchange.route(nodes.to(device))
    flags = cold_rows.to(device, torch.uint8)[:, None].index_select(0, route.requested)
    cold = exchange.fetch(route, flags).cpu()[inverse, 0] > 0  # [E]
    return {COLD: _kept(held_out, cold), WARM: _kept(held_out, ~cold)}


def _kept(lists: Adjacency, kept: Tensor) -> Adjacency:
    """The lists without the edges that are not ``kept``, bool [E]."""
    before = torch.cat([torch.zeros(1, dtype=torch.int64), kept.long().cumsum(0)])
    return Adjacency(before[lists.indptr], lists.neighbours[kept], lists.weight[kept])
