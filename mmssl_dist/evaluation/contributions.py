"""What each modality contributes: metrics of the same trained model with everything that comes from it left
out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mmssl_dist.config.model_name import uses_features
from mmssl_dist.config.training_sections import Evaluation
from mmssl_dist.evaluation.evaluate import Metrics, held_out_metrics
from mmssl_dist.evaluation.propagation import exact_rows
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.model import Mmssl
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.sharding.topology import Adjacency


def metrics_without(
    settings: Evaluation,
    model: Mmssl,
    id_rows: Tensor,
    graph: LocalGraph,
    views: Mapping[str, Adjacency],
    exchange: Exchange,
    splits: Sequence[str],
) -> dict[str, dict[str, Metrics]]:
    """Metrics of the rankings without one modality each (collective); takes what ``exact_layers`` takes.

    Left out are the modality's tower rows, its part of the item-item graph and its learned lists. The ID rows
    and the weights stay as trained beside it, so this is what the trained model owes to the modality, not
    what a model trained without it would reach.

    Args:
        splits: among "validation" and "test".

    Returns:
        modality -> split -> metrics; empty for a model that takes no features, whose rankings stay the same.
    """
    if not uses_features(model.settings):
        return {}
    found = {}
    for modality in model.modalities:
        rows = exact_rows(model, id_rows, *_without(modality, graph, views), exchange)
        found[modality] = held_out_metrics(settings, graph, rows, exchange, splits)
    return found


def _without(
    modality: str, graph: LocalGraph, views: Mapping[str, Adjacency]
) -> tuple[LocalGraph, Mapping[str, Adjacency]]:
    """The graph and the learned lists with nothing in them that is the modality's."""
    features = graph.propagated[modality]
    # Tower rows of zero, since equation 1 has no constant beside the bias column; expanded, it takes no
    # memory.
    zero = features.new_zeros(()).expand_as(features)
    empty = Adjacency(
        torch.zeros(graph.num_rows + 1, dtype=torch.int64), torch.empty(0, dtype=torch.int64), torch.empty(0)
    )
    emptied = replace(
        graph,
        propagated={**graph.propagated, modality: zero},
        similar=_emptied(graph.similar, modality, empty),
    )
    return emptied, _emptied(views, modality, empty)


def _emptied(lists: Mapping[str, Adjacency], modality: str, empty: Adjacency) -> dict[str, Adjacency]:
    return {m: empty if m == modality else each for m, each in lists.items()}
