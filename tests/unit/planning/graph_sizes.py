"""Sizes as the manifest of partitions would tell them, of a graph in memory."""

from __future__ import annotations

from collections.abc import Mapping

from mmssl_dist.graph.bipartite import degree_counts
from mmssl_dist.planning.sizes import Sizes, sizes_of_partitions
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.storage import Manifest


def sizes_of_graph(
    graph: LocalGraph, users: int, widths: Mapping[str, int], cut: tuple[float, ...], **held_out: int
) -> Sizes:
    """Of a graph of all ``users`` and items, with the edge cut between each number of workers."""
    degrees = graph.training.indptr.diff().numpy()
    facts = {
        "degrees": {"users": degree_counts(degrees[:users]), "items": degree_counts(degrees[users:])},
        "interactions": {"train": int(degrees[:users].sum()), **held_out},
        "modalities": dict(widths),
        "edge_cut_of_workers": list(cut),
        "method": "metis",
        "balance": {"edges": 1.0},
    }
    return sizes_of_partitions(Manifest("partitions", "x", facts, {}))
