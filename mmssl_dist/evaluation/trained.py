"""A trained model with all that it takes to compute its rows on one worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.model import Mmssl
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.sharding.topology import Adjacency

DOT_PRODUCT = 1.0
"""The exponent of an item's length with which a score is the dot product of the two rows."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A model on this worker's partitions. The rows that are ranked with are several times the ID rows; they
    are computed when needed and freed after use.

    Attributes:
        graph: this worker's partitions.
        views: the learned lists as graphs, by modality; empty without them.
        id_rows: [n, D] ID rows of this worker's nodes.
        length_exponent: of the length of an item's final row, see ``evaluation.item_lengths``.
    """

    graph: LocalGraph
    exchange: Exchange
    model: Mmssl
    views: Mapping[str, Adjacency]
    id_rows: Tensor
    length_exponent: float = DOT_PRODUCT
