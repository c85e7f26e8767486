"""Which way a graph will be cut, from its size and whether DGL is installed; loads no DGL, so that a plan
can ask."""

from __future__ import annotations

from mmssl_dist.config.data_sections import Partition
from mmssl_dist.errors import InputError
from mmssl_dist.graph.installed_dgl import dgl_installed

# Bytes METIS takes at its peak, per directed edge and per node, as measured.
_METIS_EDGE, _METIS_NODE = (85, 180)


def metis_bytes(nodes: int, interactions: int) -> int:
    """Estimated peak memory of ``metis_cut``, without that of the graph it is given."""
    # Twice, since METIS takes an undirected edge in both directions.
    return 2 * interactions * _METIS_EDGE + nodes * _METIS_NODE


def chosen_method(settings: Partition, nodes: int, interactions: int) -> str:
    """ "metis", "streaming" or "random": what ``settings`` comes to for a graph of this size."""
    if settings.method != "auto":
        return settings.method
    fits = metis_bytes(nodes, interactions) <= settings.metis_gb * 1e9
    return "metis" if fits and dgl_installed() else "streaming"


def require_nodes(parts: int, users: int, items: int) -> None:
    """Raise an InputError unless every part can have a node."""
    if parts > users + items:
        raise InputError(
            "partition.parts",
            parts,
            f"a part needs a node, and there are {users} users and {items} items",
            "Lower partition.parts.",
        )
