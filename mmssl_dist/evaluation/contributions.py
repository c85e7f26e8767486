"""What each modality contributes: metrics of the same trained model with everything that comes from it left
out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from mmssl_dist.config.model_name import uses_features
from mmssl_dist.config.training_sections import Evaluation
from mmssl_dist.evaluation.evaluate import Metrics, held_out_metrics
from mmssl_dist.evaluation.propagation import exact_rows
from mmssl_dist.evaluation.trained import Trained
from mmssl_dist.sharding.topology import Adjacency


def metrics_without(
    settings: Evaluation, trained: Trained, splits: Sequence[str]
) -> dict[str, dict[str, Metrics]]:
    """Metrics of the rankings without one modality each (collective).

    Left out are the modality's tower rows, its part of the item-item graph and its learned lists. The ID rows
    and the weights stay as trained beside it, so this is what the trained model owes to the modality, not
    what a model trained without it would reach.

    Args:
        splits: among "validation" and "test".

    Returns:
        modality -> split -> metrics; empty for a model that takes no features, whose rankings stay the same.
    """
    if not uses_features(trained.model.settings):
        return {}
    metrics = {}
    for modality in trained.model.modalities:
        # Propagated again: with attention and unit lengths, no final row is a sum over modalities.
        rows = exact_rows(_without(modality, trained))
        metrics[modality] = held_out_metrics(
            settings, trained.graph, rows=rows, exchange=trained.exchange, splits=splits
        )
    return metrics


def _without(modality: str, trained: Trained) -> Trained:
    """``trained`` with nothing of the modality's in its graph and learned lists."""
    graph = trained.graph
    features = graph.propagated[modality]
    # Tower rows of zero, as equation 1 has no constant beside the bias column; expanded, it takes no memory.
    zero = features.new_zeros(()).expand_as(features)
    empty = Adjacency(
        torch.zeros(graph.num_rows + 1, dtype=torch.int64), torch.empty(0, dtype=torch.int64), torch.empty(0)
    )
    emptied = replace(
        graph,
        propagated={**graph.propagated, modality: zero},
        similar=_emptied(graph.similar, modality, empty),
    )
    return replace(trained, graph=emptied, views=_emptied(trained.views, modality, empty))


def _emptied(lists: Mapping[str, Adjacency], modality: str, empty: Adjacency) -> dict[str, Adjacency]:
    return {m: empty if m == modality else graph for m, graph in lists.items()}
