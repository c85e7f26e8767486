"""Exact final rows of every node: layer by layer over whole neighbourhoods, nothing sampled, in bounded chunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmssl_dist.model import Mmssl
from mmssl_dist.sampling.block import csr_product
from mmssl_dist.sharding.exchange import Exchange
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.sharding.topology import Adjacency

_CHUNK_EDGES = 1 << 21  # edges whose source rows are held at once: at D = 64 at most 512 MiB


@dataclass(frozen=True)
class ExactRows:
    """Rows of this worker's nodes, each [n, D] float32.

    final: what is ranked with. own: the ID rows. layers: the start rows, then those of each propagation step. similar:
    rows over the item-item graph; None when it is off.
    """

    final: Tensor
    own: Tensor
    layers: tuple[Tensor, ...]
    similar: Tensor | None


@torch.no_grad()
def exact_layers(
    model: Mmssl, id_rows: Tensor, graph: LocalGraph, views: Mapping[str, Adjacency], exchange: Exchange
) -> ExactRows:
    """Rows of this worker's nodes, equations 1 to 5 without dropout (collective).

    Args:
        id_rows: [n, D] ID rows of the local nodes.
        views: the published learned lists of the local nodes per modality.

    Returns:
        rows on the device of ``id_rows``.
    """
    gathered = {m: sum_neighbours(view, id_rows, exchange) for m, view in views.items()}
    rows = model.start_rows(id_rows, gathered)
    layers = [rows]
    for _ in range(model.settings.layers):
        rows = sum_neighbours(graph.training, rows, exchange)
        layers.append(rows)
    tower = {m: _project(model, m, x, id_rows.device) for m, x in graph.propagated.items()}
    similar = _similar(model, id_rows, graph, exchange)
    return ExactRows(model.combine(layers, tower, similar), id_rows, tuple(layers), similar)


def exact_rows(
    model: Mmssl, id_rows: Tensor, graph: LocalGraph, views: Mapping[str, Adjacency], exchange: Exchange
) -> Tensor:
    """The final rows of ``exact_layers`` alone, [n, D]; takes the same."""
    return exact_layers(model, id_rows, graph, views, exchange).final


def _similar(model: Mmssl, id_rows: Tensor, graph: LocalGraph, exchange: Exchange) -> Tensor | None:
    """Rows over the item-item graph [n, D]: of items, and for users the mean of their items'."""
    if model.settings.item_graph.weight == 0:
        return None
    items = model.similar({m: sum_neighbours(lists, id_rows, exchange) for m, lists in graph.similar.items()})
    alike = replace(graph.training, weight=torch.ones(()).expand(len(graph.training.neighbours)))  # takes no memory
    of_users = sum_neighbours(alike, items, exchange)  # of rows that are zero for users, so that those of items are too
    of_users /= graph.training.indptr.diff().clamp(min=1)[:, None].to(of_users.device)
    return items + of_users


@torch.no_grad()
def sum_neighbours(adjacency: Adjacency, rows: Tensor, exchange: Exchange) -> Tensor:
    """[n, D]: for each local node the weighted sum of its neighbours' rows (collective).

    Args:
        rows: [n, D] the local nodes' own rows, which other workers may ask for.
    """
    result = torch.empty_like(rows)
    chunks = _chunks(adjacency.indptr)
    for number in range(exchange.max(len(chunks))):
        first, last = chunks[number] if number < len(chunks) else (0, 0)
        indptr = adjacency.indptr[first : last + 1]
        begin, end = int(indptr[0]), int(indptr[-1])
        nodes, column = torch.unique(adjacency.neighbours[begin:end], return_inverse=True)
        route = exchange.route(nodes.to(rows.device))
        fetched = exchange.fetch(route, rows.index_select(0, route.requested))
        result[first:last] = csr_product(
            (indptr - begin).to(rows.device), column.to(rows.device),
            adjacency.weight[begin:end].contiguous().to(rows.device),
            len(nodes), fetched,
        )  # fmt: skip
    return result


def _project(model: Mmssl, modality: str, propagated: Tensor, device: torch.device) -> Tensor:
    """In pieces, since F may be far wider than D."""
    return torch.cat([model.project(modality, piece.to(device)) for piece in torch.split(propagated, 1 << 16)])


def _chunks(indptr: Tensor) -> list[tuple[int, int]]:
    """Ranges of rows with at most ``_CHUNK_EDGES`` edges each, or a single row with more."""
    chunks, first, rows = [], 0, len(indptr) - 1
    while first < rows:
        limit = int(indptr[first]) + _CHUNK_EDGES
        last = int(torch.searchsorted(indptr, limit, right=True)) - 1
        chunks.append((first, max(first + 1, min(last, rows))))
        first = chunks[-1][1]
    return chunks
