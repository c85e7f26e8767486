"""A trained model with all that it takes to compute its rows on one worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.model import Mmssl
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.sharding.topology import Adjacency


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A model on this worker's partitions. The rows that are ranked with are several times the ID rows; they
    are computed when needed and freed after use.

    Attributes:
        graph: this worker's partitions.
        views: the learned lists as graphs, by modality; empty without them.
        id_rows: [n, D] ID rows of this worker's nodes.
    """

    graph: LocalGraph
    exchange: Exchange
    model: Mmssl
    views: Mapping[str, Adjacency]
    id_rows: Tensor
